"""The methods that adapt a frozen backbone, one file each."""
