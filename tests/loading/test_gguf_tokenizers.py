"""The tokenizers of GGUF files give the ids of those that were converted."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial

import pytest
from gguf import GGUFWriter
from gguf_converted import write_family, write_tokenizer
from gguf_tokens import add_byte_level, add_gemma4, add_sentencepiece, add_words
from golden import tiny
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CohereTokenizer,
    GemmaTokenizer,
    GPT2Tokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    Qwen3_5Tokenizer,
)

from mpt.errors import UserError
from mpt.loading.gguf.byte_level import SPLITTINGS
from mpt.loading.gguf.file import open_gguf

TEXTS = (
    "The capital of France is Paris, and that of Italy Rome.",
    " Prices rose 12.5% in 2023\n\n\tdef f(x): return x**2  # naïve café 日本語 🙂",
    "I'll say they've DON'T   know   this 1234567 Ünïcödé\r\n \r\n",
    "HTMLParser/camelCase snake_case ABCdef //\n/ ½ Ⅳ ٣٤٥ हिन्दी नमस्ते e\u0301cole ſ's",
    "   three blanks, a tab\t, and a line that ends in blanks   \n",
    "👩‍👩‍👧‍👦 🇫🇷 ok…!!! ?? ''' ''ll \u00a0no-break\u2003wide",
    "a<|im_start|>user\nHi <think> b</think><|im_end|>  c",
    " ",
    "",
)
SPECIAL, ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], ["<think>", "</think>"]

# As in the tokenizer.json of Llama 3, of Mistral Nemo and of gpt-oss.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

Vocab, Merges = dict[str, int], list[tuple[str, str]]


def split_by(pattern: str, whole: bool, vocab: Vocab, merges: Merges) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=whole))
    words, letters = pre_tokenizers.Split(Regex(pattern), "isolated"), byte_letters(use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def digits_alone(vocab: Vocab, merges: Merges) -> PreTrainedTokenizerFast:
    """As in SmolLM's, StarCoder's and Granite's tokenizer.json."""
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_letters(use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


byte_letters = partial(pre_tokenizers.ByteLevel, add_prefix_space=False)

# The tokenizers of which the names in a file tell.
CONVERTED: dict[str, Callable[[Vocab, Merges], PreTrainedTokenizerFast]] = {
    "command-r": CohereTokenizer,
    "dbrx": partial(split_by, LLAMA3, False),
    "gpt-2": GPT2Tokenizer,
    "gpt-4o": partial(split_by, O200K, False),
    "llama-bpe": partial(split_by, LLAMA3, True),
    "qwen2": Qwen2Tokenizer,
    "qwen35": Qwen3_5Tokenizer,
    "smaug-bpe": partial(split_by, LLAMA3, False),
    "smollm": digits_alone,
    "refact": digits_alone,
    "starcoder": digits_alone,
    "tekken": partial(split_by, TEKKEN, True),
}


@pytest.fixture(scope="module")
def merged() -> tuple[Vocab, Merges]:
    """Merges that go beyond words, so that it matters where a text is split; and a token that none makes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = byte_letters(use_regex=False)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator([text for text in TEXTS for _ in range(2)], trainer)
    found = json.loads(tokenizer.to_str())["model"]
    return found["vocab"] | {"Ġxyzzy": len(found["vocab"])}, [tuple(merge) for merge in found["merges"]]


@pytest.mark.parametrize("splitting", CONVERTED)
def test_byte_level_tokenizers(merged, splitting, tmp_path):
    vocab, merges = merged
    theirs = CONVERTED[splitting](vocab, merges)
    theirs.add_special_tokens({"additional_special_tokens": SPECIAL})
    theirs.add_tokens(ADDED)

    def add(writer: GGUFWriter) -> None:
        add_byte_level(writer, theirs, splitting)
        writer.add_eos_token_id(theirs.convert_tokens_to_ids(SPECIAL[0]))
        writer.add_add_bos_token(False)

    _, ours, _ = open_gguf(write_tokenizer(tmp_path / "toy.gguf", "llama", add))
    assert len(ours) == len(theirs)
    for text in (*TEXTS, "say xyzzy"):
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours(text)["input_ids"] == ids, text
        assert ours.decode(ids) == theirs.decode(ids)


def test_every_splitting_is_compared():
    same = {"llama3": "llama-bpe", "llama-v3": "llama-bpe", "deepseek-r1-qwen": "qwen2"}
    assert {same.get(name, name) for name in SPLITTINGS} == CONVERTED.keys()
    assert all(SPLITTINGS[name].pattern == SPLITTINGS[other].pattern for name, other in same.items())


def train(kind: str, prefix: bool = True) -> SentencePieceProcessor:
    """A sentencepiece model with Llama 2's settings."""
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in TEXTS[:6] for _ in range(3)]),
        model_writer=model,
        model_type=kind,
        vocab_size=520,
        character_coverage=0.98,  # of the others there are bytes
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=prefix,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return SentencePieceProcessor(model_proto=model.getvalue())


@pytest.mark.parametrize("prefix", [None, True, False])
def test_sentencepiece_tokenizers(tmp_path, prefix):
    """Where a file does not say otherwise, a text has a token and a blank in front."""
    theirs = train("bpe", prefix is not False)

    def add(writer: GGUFWriter) -> None:
        add_sentencepiece(writer, theirs)
        if prefix is not None:
            writer.add_add_space_prefix(prefix)

    _, ours, _ = open_gguf(write_tokenizer(tmp_path / "toy.gguf", "llama", add))
    assert len(ours) == theirs.vocab_size()
    for text in TEXTS:
        ids = theirs.encode(text)
        assert ours(text)["input_ids"] == [theirs.bos_id(), *ids], text
        assert ours.decode(ids) == text


CHAT = "<|user|>\nHi  <|end|> \n<|assistant|>\nYes<|endoftext|>\n"


@pytest.mark.parametrize(("architecture", "cut"), [("llama", False), ("phi3", True)])
def test_special_tokens_within_sentencepiece_texts(tmp_path, architecture, cut):
    """A text begins anew behind each; of Phi 3's, all but three take the blanks behind them along."""
    theirs, special = train("bpe"), ["<|user|>", "<|end|>", "<|assistant|>", "<|endoftext|>"]
    add = partial(add_sentencepiece, model=theirs, special=special)
    _, ours, _ = open_gguf(write_tokenizer(tmp_path / "toy.gguf", architecture, add))
    between = ["Hi  ", "", "Yes", "\n"] if cut else ["\nHi  ", " \n", "\nYes", "\n"]
    ids = [theirs.bos_id()]
    for i, text in enumerate(between):
        ids += [theirs.vocab_size() + i, *theirs.encode(text)]
    assert ours(CHAT)["input_ids"] == ids


def test_files_without_scores_have_their_merges_in_order(tmp_path):
    """Converted without a sentencepiece model, by LlamaHfVocab, every token has the same one."""
    theirs = train("bpe")

    def add(writer: GGUFWriter) -> None:
        add_sentencepiece(writer, theirs)
        writer.add_token_scores([-1000.0] * theirs.vocab_size())

    _, ours, _ = open_gguf(write_tokenizer(tmp_path / "toy.gguf", "llama", add))
    for text in TEXTS:
        assert ours(text, add_special_tokens=False)["input_ids"] == theirs.encode(text)


def test_merges_that_a_file_lists_are_taken(tmp_path):
    """As in older files of models that had a tokenizer.json."""

    def add(writer: GGUFWriter) -> None:
        add_words(writer, 8)
        writer.kv_data[0]["tokenizer.ggml.model"].value = "llama"
        writer.kv_data[0]["tokenizer.ggml.pre"].value = "default"
        writer.add_token_scores([0.0] * 8)
        writer.add_add_space_prefix(False)

    _, ours, _ = open_gguf(write_tokenizer(tmp_path / "toy.gguf", "llama", add))
    assert ours("ab")["input_ids"] == [1, 2]


def test_a_unigram_model_is_refused(tmp_path):
    add = partial(add_sentencepiece, model=train("unigram"))
    with pytest.raises(UserError, match=r"toy.gguf: tokenizer.ggml.scores are those of a unigram model"):
        open_gguf(write_tokenizer(tmp_path / "toy.gguf", "llama", add))


@pytest.mark.parametrize("begun", [True, False])
def test_the_tokenizer_of_gemma_4(tmp_path, begun):
    """Its merges are in the file, and go over lines and blanks; every text has a token in front."""
    learnt = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    learnt.normalizer = normalizers.Replace(" ", "▁")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    learnt.train_from_iterator([text for text in TEXTS[:5] for _ in range(2)], trainer)
    found = json.loads(learnt.to_str())["model"]
    theirs = GemmaTokenizer(found["vocab"], [tuple(merge) for merge in found["merges"]])
    theirs.add_special_tokens({"additional_special_tokens": ["<|turn>", "<turn|>", "<|channel>"]})

    def add(writer: GGUFWriter) -> None:
        add_gemma4(writer, theirs)
        writer.add_add_bos_token(begun)

    file = write_family(tmp_path / "toy.gguf", "gemma4_text", words=add)
    _, ours, _ = open_gguf(file)
    assert len(ours) == len(theirs)
    for text in (*TEXTS, "<|turn>user\n Hi\n\n\n you<turn|>\n<|turn>model\n<|channel>x", "▁ ▁"):
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours(text)["input_ids"] == [theirs.bos_token_id, *ids], text
        assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_another_tokenizer_of_gemma_4_is_refused(tmp_path, kind):
    add = partial(add_words, size=tiny.VOCAB, kind=kind)
    with pytest.raises(UserError, match=rf"tokenizer.ggml.model is '{kind}', but for gemma4 only gemma4 can"):
        open_gguf(write_family(tmp_path / "toy.gguf", "gemma4_text", words=add))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": "t5"}, "tokenizer.ggml.model is 't5', but for llama only gpt2 and llama can be read"),
        ({"model": "gemma4"}, "tokenizer.ggml.model is 'gemma4'"),
        ({"pre": "default"}, "tokenizer.ggml.pre is 'default', but command-r, dbrx, .* are supported"),
        ({"pre": "deepseek-coder"}, "tokenizer.ggml.pre is 'deepseek-coder'"),
        ({"pre": None}, "tokenizer.ggml.pre is None"),
    ],
)
def test_a_tokenizer_that_is_not_known_is_refused(tmp_path, fields, said):
    def add(writer: GGUFWriter) -> None:
        add_words(writer, 8)
        for name, value in fields.items():
            del writer.kv_data[0][f"tokenizer.ggml.{name}"]
            if value is not None:
                writer.add_string(f"tokenizer.ggml.{name}", value)

    with pytest.raises(UserError, match=rf"toy.gguf: {said}"):
        open_gguf(write_tokenizer(tmp_path / "toy.gguf", "llama", add))


def test_a_splitting_of_sentencepieces_is_refused(tmp_path):
    def add(writer: GGUFWriter) -> None:
        add_sentencepiece(writer, train("bpe"))
        writer.kv_data[0]["tokenizer.ggml.pre"].value = "llama-bpe"

    with pytest.raises(
        UserError, match=r"tokenizer.ggml.pre is 'llama-bpe', and mpt computes with 'default'"
    ):
        open_gguf(write_tokenizer(tmp_path / "toy.gguf", "llama", add))


@pytest.mark.parametrize(("splitting", "begun"), [("llama-bpe", True), ("tekken", True), ("qwen2", False)])
def test_whether_texts_begin_with_a_token_is_known_of_the_tokenizer(tmp_path, splitting, begun):
    """Where the file does not say it, as Llama 3's do not."""

    def add(writer: GGUFWriter) -> None:
        add_words(writer, 8)
        writer.kv_data[0]["tokenizer.ggml.pre"].value = splitting

    _, ours, _ = open_gguf(write_tokenizer(tmp_path / "toy.gguf", "llama", add))
    assert ours("ab")["input_ids"] == ([1, 2] if begun else [2])
