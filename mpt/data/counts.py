"""Numbers of rows of TensorFlow Datasets, known without downloading them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

# The data sets that the packaged tasks read, with the sizes in TFDS's catalog: most builders carry no
# counts, and some cannot be created without TensorFlow.
ROWS: dict[str, dict[str, int]] = {
    "ag_news_subset": {"train": 120_000, "test": 7_600},
    "gem/e2e_nlg": {"train": 33_525, "validation": 4_299, "test": 4_693},
    "gem/web_nlg_en": {"train": 35_426, "validation": 1_667, "test": 1_779},
    "glue/cola": {"train": 8_551, "validation": 1_043},
    "glue/mnli": {"train": 392_702, "validation_matched": 9_815, "validation_mismatched": 9_832},
    "glue/mrpc": {"train": 3_668, "validation": 408},
    "glue/qnli": {"train": 104_743, "validation": 5_463},
    "glue/qqp": {"train": 363_846, "validation": 40_430},
    "glue/rte": {"train": 2_490, "validation": 277},
    "glue/sst2": {"train": 67_349, "validation": 872},
    "glue/stsb": {"train": 5_749, "validation": 1_500},
    "glue/wnli": {"train": 635, "validation": 71},
    "imdb_reviews": {"train": 25_000, "test": 25_000},
    "mrqa/hotpot_qa": {"train": 72_928, "validation": 5_901},
    "mrqa/natural_questions": {"train": 104_071, "validation": 12_836},
    "mrqa/news_qa": {"train": 74_160, "validation": 4_212},
    "mrqa/search_qa": {"train": 117_384, "validation": 16_980},
    "mrqa/trivia_qa": {"train": 61_688, "validation": 7_785},
    "paws_wiki/labeled_final_tokenized": {"train": 49_401, "validation": 8_000, "test": 8_000},
    "sci_tail": {"train": 23_097, "validation": 1_304, "test": 2_126},
    "squad/v1.1": {"train": 87_599, "validation": 10_570},
    "super_glue/boolq": {"train": 9_427, "validation": 3_270},
    "super_glue/cb": {"train": 250, "validation": 56},
    "super_glue/copa": {"train": 400, "validation": 100},
    "super_glue/multirc": {"train": 27_243, "validation": 4_848},
    "super_glue/record": {"train": 100_730, "validation": 10_000},
    "super_glue/rte": {"train": 2_490, "validation": 277},
    "super_glue/wic": {"train": 5_428, "validation": 638},
    "super_glue/wsc.fixed": {"train": 554, "validation": 104},
    "winogrande": {"train_xl": 40_398, "validation": 1_267},
    "yelp_polarity_reviews": {"train": 560_000, "test": 38_000},
}


def prepared(name: str) -> Any:
    """Returns the builder of a data set that is prepared on this machine; None if it is not."""
    from tensorflow_datasets.core import DatasetNotFoundError, read_only_builder

    try:
        return read_only_builder.builder_from_files(name)
    except (DatasetNotFoundError, OSError, ValueError):
        return None


def tfds_rows(name: str, expression: str) -> int | None:
    """Number of rows of a split expression; None if it is unknown.

    The number comes from the data set if it is prepared on this machine, else from ``ROWS``, else from the
    metadata of its builder.

    Args:
        name: the builder and its config, such as "glue/sst2".
        expression: a TFDS split, such as "train[1000:]".
    """
    import tensorflow_datasets as tfds

    builder, known = prepared(name), ROWS.get(name.partition(":")[0])
    if builder is None and known:
        splits: Any = _splits(known)
    else:
        try:
            splits = (builder or tfds.builder(name)).info.splits
        except Exception:  # of many kinds: no such data set, no TensorFlow, no network
            return None
    try:
        return splits[expression].num_examples
    except (KeyError, ValueError):  # a builder that knows no splits yet
        return None


def _splits(known: Mapping[str, int]) -> Any:
    """Makes TFDS split metadata that holds nothing but the sizes."""
    from tensorflow_datasets.core import ShardedFileTemplate, SplitInfo
    from tensorflow_datasets.core.splits import SplitDict

    nowhere: Any = Path()
    files = ShardedFileTemplate(data_dir=nowhere, dataset_name="none", filetype_suffix="none")
    return SplitDict([SplitInfo(name, [count], 0, files) for name, count in known.items()])
