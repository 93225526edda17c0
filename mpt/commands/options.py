"""Options that several commands have."""

from typing import Annotated

import tyro

# A folder, or gs://bucket/run, which a `Path` would shorten to gs:/bucket/run.
RunArgument = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
RunArguments = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR...")]
OutOption = Annotated[str, tyro.conf.arg(metavar="PATH")]
