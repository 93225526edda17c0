"""Chats as tokens: what the model's own template writes, and the reply where and as it puts it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toys import beginning_tokenizer, refused, tiny_tokenizer, write_task

from mpt import cli
from mpt.catalog.library import find_task
from mpt.data.class_words import check_words
from mpt.data.records import Record
from mpt.data.task import Task
from mpt.data.text.chat import reply_form
from mpt.data.text.messages import Turn
from mpt.data.tokenise import answer_end, encode, opening_of
from mpt.errors import UserError
from mpt.methods.examples import in_context

# The forms that the templates of the field have, with their own special tokens.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + ' ' + eos_token }}"
    "{% else %}{{ raise_exception('no system') }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
SPECIAL = ("<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]")
FORMS = {
    "chatml": (
        CHATML,
        "<|im_start|>user\nso we\nSo:<|im_end|>\n<|im_start|>assistant\n",
        "good",
        "<|im_end|>",
    ),
    "thinking": (
        THINKING,
        "<|im_start|>user\nso we\nSo:<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "good",
        "<|im_end|>",
    ),
    "llama-2": (LLAMA2, "<pad>[INST] so we\nSo: [/INST]", " good", "<eos>"),
    "gemma": (
        GEMMA,
        "<pad><start_of_turn>user\nso we\nSo:<end_of_turn>\n<start_of_turn>model\n",
        "good",
        "<end_of_turn>",
    ),
    "plain": (PLAIN, "user: so we\nSo:\nassistant:", " good", "<eos>"),
}


def chatting(template: str, begins: bool = False):
    """A tokenizer with that chat template; ``begins`` adds the first token to every text."""
    tokenizer = beginning_tokenizer() if begins else tiny_tokenizer()
    tokenizer.bos_token = "<pad>"
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture
def task(tmp_path) -> Task:
    return find_task(str(write_task(tmp_path, "tone", chat=True)))


def rows_of(task: Task, tokenizer, text="so we", most=200, **options):
    record = Record("here", {"text": text, "label": "yes"})
    return encode([task.example(record)], tokenizer, most, **options)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("free", [False, True])
def test_the_template_renders_the_turns_and_the_reply(form, free, task):
    template, opening, reply, end = FORMS[form]
    tokenizer = chatting(template)
    task = replace(task, verbalizer={}) if free else task
    record = Record("here", {"text": "so we", "label": "good" if free else "yes"})
    (row,) = encode([task.example(record)], tokenizer, 200)
    assert tokenizer.decode(row.inputs) == opening
    assert tokenizer.decode(row.targets) == reply + (end if free else "")
    if not free:
        assert [tokenizer.decode(ids) for ids in row.choices] == [reply, reply.replace("good", "bad")]
    whole = tokenizer(opening + reply, add_special_tokens=False)["input_ids"]
    assert [*row.inputs, *row.targets][: len(whole)] == whole


@pytest.mark.parametrize("form", FORMS)
def test_a_turn_ends_with_the_templates_own_token_else_with_the_texts(form):
    tokenizer = chatting(FORMS[form][0])
    assert tokenizer.convert_ids_to_tokens(answer_end(tokenizer, chat=True)) == FORMS[form][3]


@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_chat_begins_with_the_first_token_once(form, begins, task):
    tokenizer = chatting(FORMS[form][0], begins)
    (row,) = rows_of(task, tokenizer, bos=1 if begins else None)
    wanted = begins or FORMS[form][1].startswith("<pad>")  # what a template writes stays
    assert (list(row.inputs[:2]).count(1), row.inputs[0] == 1) == (wanted, wanted)


def test_every_turn_is_rendered_in_its_place(task):
    talk = [
        {"role": role, "content": role[0]} for role in ("system", "user", "assistant", "user", "assistant")
    ]
    talks = replace(task, template="", verbalizer={})
    (row,) = encode([talks.example(Record("here", {"messages": talk}))], tokenizer := chatting(CHATML), 200)
    assert tokenizer.decode(row.inputs) == (
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
        "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.decode(row.targets) == "a<|im_end|>"


def test_the_longest_message_is_cut_and_never_the_template(task):
    tokenizer = chatting(CHATML)
    (whole,) = rows_of(task, tokenizer, "a " * 40)
    (row,) = rows_of(task, tokenizer, "a " * 40, most=len(whole.inputs) - 20)
    read = tokenizer.decode(row.inputs)
    assert row.lost >= 20
    assert read.startswith("<|im_start|>user\na a")
    assert read.endswith("a\nSo:<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("free", [False, True])
def test_examples_in_context_are_closed_conversations(form, free, task):
    tokenizer, (_, opening, reply, _) = chatting(FORMS[form][0], begins=True), FORMS[form]
    if free:
        task = replace(task, verbalizer={})
    record = Record("here", {"text": "so we", "label": "good" if free else "yes"})
    rows = encode([task.example(record)] * 2, tokenizer, 200, bos=1)
    shown = tokenizer.decode(in_context(task, rows, tokenizer, 400, 0, bos=1).ids)
    closing = reply_form(tokenizer).closing
    assert closing.strip() in ("<|im_end|>", "<eos>", "<end_of_turn>", "")
    one = opening.removeprefix("<pad>") + reply + closing
    assert shown == task.instruction + one * 2


def test_a_template_that_refuses_a_turn_is_told(task):
    with pytest.raises(UserError, match="the model's chat template refuses them: no system"):
        rows_of(replace(task, system="Be brief."), chatting(LLAMA2))


@pytest.mark.parametrize(
    ("make", "layout", "message"),
    [
        (tiny_tokenizer, "decoder", "task tone: chat: the model's tokenizer has no chat template"),
        (lambda: chatting(CHATML), "encoder-decoder", "task tone: chat: an encoder-decoder reads no"),
    ],
)
def test_a_model_that_reads_no_chats_is_told_before_anything_begins(make, layout, message, task):
    with pytest.raises(UserError, match=message):
        check_words(task, make(), layout, 400)


def test_thinking_is_off_wherever_a_template_has_the_switch():
    assert reply_form(chatting(THINKING)).opening.endswith("<think>\n\n</think>\n\n")
    other = CHATML + "{% if thinking %}<think>{% endif %}"
    assert reply_form(chatting(other)).opening.endswith("assistant\n")


def test_the_system_text_is_rendered(task):
    (row,) = rows_of(replace(task, system="Be {brief}."), tokenizer := chatting(CHATML))
    assert tokenizer.decode(row.inputs).startswith(
        "<|im_start|>system\nBe {brief}.<|im_end|>\n<|im_start|>user"
    )
    assert Turn("system", "Other.") in replace(task, system="Be.").with_system([Turn("system", "Other.")])


def test_tasks_show_has_special_tokens_the_prompts_place_and_what_is_learned(
    task, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "400")
    tokenizer = chatting(CHATML)
    monkeypatch.setattr("mpt.loading.hf.load_tokenizer", lambda name: (tokenizer, "decoder"))
    assert (
        cli.main(["tasks", "show", str(tmp_path / "tone.yaml"), "--model", "some/model", "--rows", "1"]) == 0
    )
    shown = capsys.readouterr().out
    assert "[prompt]<|im_start|>user\n" in shown
    assert "<|im_end|>\n<|im_start|>assistant\ngood" in shown
    monkeypatch.setattr("mpt.loading.hf.load_tokenizer", lambda name: (tiny_tokenizer(), "decoder"))
    assert "no chat template" in refused(
        capsys, "tasks", "show", str(tmp_path / "tone.yaml"), "--model", "some/model"
    )


def placed_rows(task: Task, tokenizer, columns, most=200, bos=None):
    """What stands in front of a prompt inside the user's turn, and the rows after it."""
    task = replace(task, place="user")
    opening = opening_of([task], tokenizer, "decoder", bos)
    assert opening is not None
    examples = [task.example(Record("here", each), "good") for each in columns]
    return opening, encode(examples, tokenizer, most, bos=bos, opening=opening)


@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_prompt_inside_the_users_turn_parts_a_text_in_two(form, begins, task):
    """Together its parts are the text that stands after a prompt in front of everything."""
    tokenizer, bos = chatting(FORMS[form][0], begins), 1 if begins else None
    opening, (row, other) = placed_rows(task, tokenizer, [{"text": "so we"}, {"text": "it"}], bos=bos)
    ids, front = (
        tokenizer("so we", add_special_tokens=False)["input_ids"],
        rows_of(task, tokenizer, bos=bos)[0],
    )
    assert [*opening.tokens, *row.inputs] == list(front.inputs)
    assert list(row.inputs[: len(ids)]) == ids != list(other.inputs[: len(ids)])
    assert (row.choices, row.targets) == (front.choices, front.targets)


def test_a_users_blanks_stay_behind_the_prompt(task):
    (talks, tokenizer) = replace(task, template="", verbalizer={}), chatting(CHATML)
    asked = {"messages": [{"role": "user", "content": "\n\n so"}, {"role": "assistant", "content": "we"}]}
    opening, (row,) = placed_rows(talks, tokenizer, [asked])
    assert tokenizer.decode(opening.tokens) == opening.text == "<|im_start|>user\n"
    assert tokenizer.decode(row.inputs).startswith("\n\n so<|im_end|>")


def test_a_conversation_has_the_prompt_in_its_first_user_turn(task):
    talks, tokenizer = replace(task, template="", verbalizer={}, system="be"), chatting(CHATML)
    said = [("user", "so"), ("assistant", "we"), ("user", "it")]
    turns = [{"role": role, "content": text} for role, text in said]
    opening, (row, same) = placed_rows(
        talks, tokenizer, [{"messages": turns}, {"messages": [{"role": "system", "content": "be"}, *turns]}]
    )
    assert opening.text == "<|im_start|>system\nbe<|im_end|>\n<|im_start|>user\n"
    assert list(row.inputs) == list(same.inputs)
    assert tokenizer.decode(row.inputs) == (
        "so<|im_end|>\n<|im_start|>assistant\nwe<|im_end|>\n<|im_start|>user\nit<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    "roles", [("system", "user"), ("assistant", "user"), ("system",), ("system", "assistant")]
)
def test_a_conversation_that_begins_in_another_way_is_refused(roles, task):
    talks = replace(task, template="", verbalizer={})
    turns = [{"role": role, "content": "so"} for role in roles]
    with pytest.raises(UserError, match=r"does not begin with '<\|im_start\|>user.*as the task's do"):
        placed_rows(talks, chatting(CHATML), [{"messages": turns}])


def test_the_opening_counts_among_the_tokens_of_a_text(task):
    tokenizer, text = chatting(CHATML), "so we it " * 20
    opening, (row,) = placed_rows(task, tokenizer, [{"text": text}], most=60)
    assert len(opening.tokens) + len(row.inputs) <= 60 and row.lost
    (front,) = rows_of(task, tokenizer, text, most=60)
    assert [*opening.tokens, *row.inputs] == list(front.inputs)
    with pytest.raises(UserError, match="max_length is 20, and the template's own words take"):
        placed_rows(task, tokenizer, [{"text": text}], most=20)


@pytest.mark.parametrize("form", ["chatml", "llama-2", "gemma", "plain"])
def test_examples_inside_the_users_turn_are_earlier_turns_of_the_conversation(form, task):
    tokenizer, task = chatting(FORMS[form][0]), replace(task, instruction="", place="user")
    texts = ["so", "we", "it"]
    opening, rows = placed_rows(task, tokenizer, [{"text": text} for text in texts])
    shown = in_context(task, rows[:2], tokenizer, 200, 0).ids
    turns = [("user", f"{texts[i]}\nSo:") for i in (0, 1)]
    wanted = []
    for i in (0, 1):
        said = [turn for j in (i, 1 - i) for turn in (Turn(*turns[j]), Turn("assistant", "good"))]
        conversation = [turn._asdict() for turn in [*said, Turn("user", "it\nSo:")]]
        wanted.append(tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True))
    assert tokenizer.decode([*opening.tokens, *shown, *rows[2].inputs]) in wanted


def test_a_prompt_inside_the_users_turn_is_never_read_elsewhere(task):
    """Rows without what stands in front are read only by those who put it there."""
    tokenizer, placed = chatting(CHATML), replace(task, place="user")
    with pytest.raises(UserError, match="place: only adapt, evaluate, predict and serve"):
        rows_of(placed, tokenizer)
    with pytest.raises(UserError, match="place: only adapt, evaluate, predict and serve"):
        rows_of(task, tokenizer, opening=opening_of([placed], tokenizer, "decoder"))
    with pytest.raises(UserError, match="tasks tone and other have other text in front of their prompts"):
        opening_of([placed, replace(placed, name="other", system="Be.")], tokenizer, "decoder")
    with pytest.raises(UserError, match="an encoder-decoder reads no conversations"):
        opening_of([placed], tokenizer, "encoder-decoder")
    assert opening_of([task], tokenizer, "decoder") is None
