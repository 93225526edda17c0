"""`mpt serve`: the prompts of several runs behind one backbone, over HTTP.

``app`` speaks HTTP and ``protocol`` reads and words what is said; ``batcher`` gathers what many clients
ask into batches; ``engine`` answers a batch; ``metrics`` counts; ``server`` starts and stops it all.
"""
