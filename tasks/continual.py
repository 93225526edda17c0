"""Tasks that follow one another: the five of Zhang et al. (2015), IMDB, and the orders they come in.

Class words are those of Progressive Prompts' code (Razdaibiedina et al., 2023). Amazon's reviews are
another sample of five-star ones than Zhang's, which is on no hub.
"""

from __future__ import annotations

from mpt.data.hub import Hub
from mpt.data.sources import Tfds
from mpt.data.task import Task
from mpt.tasks import large, own

STARS = ("terrible", "bad", "middle", "good", "wonderful")
STARS_ASKED = "Decide how the reviewer felt: terrible, bad, middle, good or wonderful.\n"
ZHANG = "https://arxiv.org/abs/1509.01626"

TASKS = (
    # Oil prices fall. Crude fell by two dollars on Monday. -> business
    Task(
        name="ag_news",
        source=Tfds("ag_news_subset", large(test="test")),
        template="ag_news sentence: {title}. {description}",
        verbalizer={"World": "world", "Sports": "sports", "Business": "business", "Sci/Tech": "science"},
        instruction="Name the topic of this news: world, sports, business or science.\n",
        url=ZHANG,
        templates={"plain": "{title}. {description}\nTopic:"},
    ),
    # It broke on the first day. -> terrible
    Task(
        name="amazon",
        source=Hub("SetFit/amazon_reviews_multi_en", own()),
        template="amazon sentence: {text}",
        verbalizer={str(stars): word for stars, word in enumerate(STARS)},
        instruction=STARS_ASKED,
        url="https://huggingface.co/datasets/SetFit/amazon_reviews_multi_en",
        templates={"plain": "{text}\nRating:"},
    ),
    # The food was fine, the service slow. -> middle
    Task(
        name="yelp",
        source=Hub("Yelp/yelp_review_full", large(test="test")),
        template="yelp sentence: {text}",
        verbalizer=dict(zip(("1 star", "2 star", "3 stars", "4 stars", "5 stars"), STARS)),
        instruction=STARS_ASKED,
        url=ZHANG,
        templates={"plain": "{text}\nRating:"},
    ),
    # Abies alba. Abies alba is a fir of the mountains of Europe. -> plant
    Task(
        name="dbpedia",
        source=Hub("fancyzhx/dbpedia_14", large(test="test")),
        template="dbpedia title: {title} content: {content}",
        verbalizer={
            label: label.lower()
            for label in (
                *("Company", "EducationalInstitution", "Artist", "Athlete", "OfficeHolder"),
                *("MeanOfTransportation", "Building", "NaturalPlace", "Village", "Animal"),
                *("Plant", "Album", "Film", "WrittenWork"),
            )
        },
        instruction="Say what kind of thing the text describes, such as company, artist or village.\n",
        url=ZHANG,
        templates={"plain": "{title}. {content}\nKind:"},
    ),
    # why is the sky blue / Blue light is scattered most. -> science
    Task(
        name="yahoo",
        source=Hub("community-datasets/yahoo_answers_topics", large(test="test")),
        template="yahoo question: {question_title} {question_content} answer: {best_answer}",
        verbalizer={
            "Society & Culture": "society and culture",
            "Science & Mathematics": "science",
            "Health": "health",
            "Education & Reference": "education and reference",
            "Computers & Internet": "computers and internet",
            "Sports": "sports",
            "Business & Finance": "business",
            "Entertainment & Music": "entertainment and music",
            "Family & Relationships": "family and relationships",
            "Politics & Government": "politics and government",
        },
        label="topic",
        instruction="Name the topic of this question and its answer, such as health or sports.\n",
        url=ZHANG,
        templates={"plain": "{question_title} {question_content}\n{best_answer}\nTopic:"},
    ),
    # I laughed twice in two hours. -> negative
    Task(
        name="imdb",
        source=Tfds("imdb_reviews", large(test="test")),
        template="imdb sentence: {text}",
        verbalizer={"neg": "negative", "pos": "positive"},
        instruction="Decide whether the feeling of this movie review is negative or positive.\n",
        url="https://ai.stanford.edu/~amaas/data/sentiment",
        templates={"plain": "{text}\nSentiment:"},
    ),
)


def named(names: str) -> tuple[str, ...]:
    """Task names of the names that the papers use."""
    prefixes = {
        "glue_": ("mnli", "qqp", "rte", "sst2"),
        "superglue_": ("boolq", "cb", "copa", "multirc", "wic"),
    }
    full = {name: prefix + name for prefix, names in prefixes.items() for name in names}
    return tuple(full.get(name, name) for name in names.split())


# "four" and "fifteen" are orders 1-3 and 4-6 of O-LoRA (Wang et al., 2023); "five" are orders i-iv of
# MbPA++ (de Masson d'Autume et al., 2019).
SEQUENCES: dict[str, tuple[str, ...]] = {
    "four_1": named("dbpedia amazon yahoo ag_news"),
    "four_2": named("dbpedia amazon ag_news yahoo"),
    "four_3": named("yahoo amazon ag_news dbpedia"),
    "five_1": named("yelp ag_news dbpedia amazon yahoo"),
    "five_2": named("dbpedia yahoo ag_news amazon yelp"),
    "five_3": named("yelp yahoo amazon dbpedia ag_news"),
    "five_4": named("ag_news yelp amazon yahoo dbpedia"),
    "fifteen_1": named("mnli cb wic copa qqp boolq rte imdb yelp amazon sst2 dbpedia ag_news multirc yahoo"),
    "fifteen_2": named("multirc boolq wic mnli cb copa qqp rte imdb sst2 dbpedia ag_news yelp amazon yahoo"),
    "fifteen_3": named("yelp amazon mnli cb copa qqp rte imdb sst2 dbpedia ag_news yahoo multirc boolq wic"),
}
