"""Types of options that several commands share."""

from typing import Annotated

import tyro

# A folder, or a URL such as gs://bucket/run, which a `Path` would shorten to gs:/bucket/run.
RunArgument = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
RunArguments = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR...")]
OutOption = Annotated[str, tyro.conf.arg(metavar="PATH")]
