"""Class words are what the tokenizer makes of them, not what they are as strings."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from toys import refused, tiny_tokenizer, toy_rows, write_task
from transformers import PreTrainedTokenizerFast

from mpt.data.class_words import check_words
from mpt.data.sources import Files
from mpt.data.task import Example, Task
from mpt.data.tokenise import class_tokens, encode
from mpt.errors import UserError

BYTES = tiny_tokenizer()
END, VOCAB = BYTES.eos_token_id, len(BYTES)


def with_blank_of_its_own(pre_tokenizer=None, normalizer=None) -> PreTrainedTokenizerFast:
    """A tokenizer of characters that begins every text with a blank, as sentencepiece does."""
    pieces = {piece: i for i, piece in enumerate(["<unk>", "</s>", *"▁agdobS:"])}
    whole = Tokenizer(models.BPE(pieces, [], unk_token="<unk>"))
    if pre_tokenizer:
        whole.pre_tokenizer = pre_tokenizer
    if normalizer:
        whole.normalizer = normalizer
    return PreTrainedTokenizerFast(tokenizer_object=whole, eos_token="</s>", unk_token="<unk>")


LLAMA_2 = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
SENTENCEPIECE = {
    "metaspace": with_blank_of_its_own(pre_tokenizers.Metaspace()),
    "prepended": with_blank_of_its_own(normalizer=LLAMA_2),
}


def task(*words: str, template: str = "{text}\nSo:", **attributes) -> Task:
    verbalizer = {str(label): word for label, word in enumerate(words)}
    return Task("mine", Files({}), template, verbalizer, **attributes)


def example(*words: str, template: str = "{text}\nSo:", text: str = "good", label: int = 0) -> Example:
    return Example(template, {"text": text}, words[label], words)


def are_apart(words: Sequence[Sequence[int]]) -> bool:
    """Whether none of several words begins another."""
    return not any(a is not b and list(b[: len(a)]) == list(a) for a in words for b in words)


WORDS = st.lists(st.text("10ab ", min_size=1, max_size=6).map(str.strip).filter(bool), min_size=1, max_size=6)


@given(WORDS.map(lambda words: tuple(dict.fromkeys(words))), st.sampled_from(["decoder", "encoder-decoder"]))
def test_no_class_word_begins_another(words, layout):
    scored = class_tokens(words, BYTES, layout)
    assert are_apart(scored)
    plain = BYTES([f" {word}" for word in words], add_special_tokens=False)["input_ids"]
    if layout == "decoder" and are_apart(plain):
        assert scored == plain  # as ever, where there is no need
    else:
        assert all(ids[-1] == END for ids in scored)


@pytest.mark.parametrize("label", [0, 1])
def test_what_is_scored_is_what_is_trained(label):
    words = ("reminder", "reminder update")
    (row,) = encode([example(*words, label=label)], BYTES, 32)
    assert row.targets == row.choices[label]
    assert [ids[-1] for ids in row.choices] == [END, END]


@pytest.mark.parametrize("end", ["", " ", "  ", "\t"])
@pytest.mark.parametrize("words", [("good", "bad"), (" good", "bad "), ("  good", "\tbad")])
@pytest.mark.parametrize("name", ["bytes", *SENTENCEPIECE])
def test_one_blank_stands_between_text_and_class_word(end, words, name):
    tokenizer = SENTENCEPIECE.get(name, BYTES)
    (row,) = encode([example(*words, template="{text} So:" + end)], tokenizer, 32)
    for word, ids in zip(("good", "bad"), row.choices):
        whole = tokenizer(f"good So: {word}", add_special_tokens=False)["input_ids"]
        assert [*row.inputs, *ids] == whole


def test_blanks_that_an_empty_field_leaves_do_not_count():
    rows = encode([example("good", "bad", template="{text} {text}", text="")], BYTES, 32)
    assert rows[0].inputs == []


UNKNOWN = SENTENCEPIECE["metaspace"]


@pytest.mark.parametrize("layout", ["decoder", "encoder-decoder"])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("👎", "👍"), "class '👎' has only unknown tokens"),
        (("消极", "good"), "class '消极' has only unknown tokens"),
        (("good", "\u200b"), "class '\u200b' has only unknown tokens"),
        (("good", " "), "class ' ' is an empty word"),
        (("goéd", "goèd"), "classes 'goéd' and 'goèd' have the same tokens"),
        (("good", " good"), "classes 'good' and ' good' have the same tokens"),
    ],
)
def test_classes_that_are_one_to_the_tokenizer_are_refused(layout, words, told):
    with pytest.raises(UserError, match=f"task mine: {told}"):
        check_words(task(*words), UNKNOWN, layout, 99)


def test_class_word_with_an_end_within_is_refused():
    with pytest.raises(UserError, match="contains the end-of-text token"):
        check_words(task("good", "good<eos>"), BYTES, "decoder", VOCAB)


@pytest.mark.parametrize("layout", ["decoder", "encoder-decoder"])
def test_sound_words_pass(layout):
    check_words(task("good", "bad", "good bad", "1", "10"), BYTES, layout, VOCAB)
    check_words(Task("free", Files({}), "{text}"), BYTES, layout, VOCAB)


@pytest.mark.parametrize(
    ("made", "where"),
    [
        (task("good", "bad", template="<new> {text}"), "the template"),
        (task("<new>", "bad"), "class '<new>'"),
    ],
)
def test_words_beyond_the_embedding_are_refused(made, where):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<new>"])
    told = f"{where}: token '<new>' has number {VOCAB}, .* has {VOCAB} rows for .* {VOCAB + 1} tokens"
    with pytest.raises(UserError, match=told):
        check_words(made, tokenizer, "decoder", VOCAB)
    check_words(made, tokenizer, "decoder", VOCAB + 1)


@pytest.mark.parametrize("text", ["so <new>", "so"])
def test_texts_beyond_the_embedding_are_refused(text):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<new>"])
    target = "good" if "<new>" in text else "<new>"
    read = Example("{text}", {"text": text}, target)
    with pytest.raises(UserError, match=f"token '<new>' has number {VOCAB}"):
        encode([read], tokenizer, 32, vocab=VOCAB)
    assert len(encode([read], tokenizer, 32, vocab=VOCAB + 1)) == 1


def test_check_reads_the_words_as_a_model_does(capsys, tmp_path, tiny_model):
    words = {"yes": "good", "no": "good "}
    path = str(write_task(tmp_path, "mine", toy_rows("tone"), verbalizer=words))
    assert "1 fault" in refused(capsys, "tasks", "check", path, "--model", str(tiny_model))
    other = str(write_task(tmp_path, "other", toy_rows("tone")))
    for command in (["adapt", "few_shot", "--task", path], ["pretrain", "--tasks", path, other]):
        out = str(tmp_path / command[0])
        told = refused(capsys, *command, "--model.name", str(tiny_model), "--out", out)
        assert "classes 'good' and 'good ' have the same tokens" in told
