"""WinoGrande, Yelp polarity, SciTail and PAWS, the further targets of ATTEMPT (Asai et al., 2022).

T5 has no words for them; here they are as in T5's tasks of the same kind. Mind in comparing figures
that ATTEMPT's code halves SciTail's validation split, though there is a labelled test split, and that
it shows WinoGrande's first option in place of both.
"""

from __future__ import annotations

from mpt.data.sources import Tfds
from mpt.data.task import Task
from mpt.tasks import large, own

TASKS = (
    # The cup did not fit in the box as the _ was too big. / cup / box -> option1
    Task(
        name="winogrande",
        source=Tfds("winogrande", large(train="train_xl")),
        template="winogrande sentence: {sentence} option1: {option1} option2: {option2}",
        verbalizer={"1": "option1", "2": "option2"},
        instruction="Decide which option fills the gap _ in the sentence.\n",
        url="https://winogrande.allenai.org",
        templates={"plain": "{sentence}\noption1: {option1}\noption2: {option2}\nThe gap _ is"},
    ),
    # The soup was cold and the waiter rude. -> negative
    Task(
        name="yelp_polarity",
        source=Tfds("yelp_polarity_reviews", large(test="test")),
        template="yelp_polarity sentence: {text}",
        verbalizer={"1": "negative", "2": "positive"},
        instruction="Decide whether the feeling of this review is negative or positive.\n",
        url="https://arxiv.org/abs/1509.01626",
        templates={"plain": "{text}\nSentiment:"},
    ),
    # Plants make sugar from light. (premise) / Sugar is made by plants. -> entailment
    Task(
        name="scitail",
        source=Tfds("sci_tail", own()),
        template="scitail hypothesis: {hypothesis} premise: {premise}",
        verbalizer={"entails": "entailment", "neutral": "neutral"},
        instruction="Decide whether the premise entails the hypothesis or is neutral to it.\n",
        url="https://allenai.org/data/scitail",
        templates={"plain": "{premise}\nDoes this mean that {hypothesis}\nAnswer:"},
    ),
    # He moved from Rome to Oslo . / He moved from Oslo to Rome . -> not_equivalent
    Task(
        name="paws",
        source=Tfds("paws_wiki/labeled_final_tokenized", own()),
        template="paws sentence1: {sentence1} sentence2: {sentence2}",
        verbalizer={"different_meaning": "not_equivalent", "paraphrase": "equivalent"},
        metrics=("accuracy", "f1"),
        instruction="Decide whether the two sentences are equivalent in meaning or not.\n",
        url="https://github.com/google-research-datasets/paws",
        templates={"plain": "{sentence1}\n{sentence2}\nIn meaning, the two sentences are"},
    ),
)
