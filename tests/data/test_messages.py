"""Conversations in rows: each form is read, and what is more than texts is refused by its name."""

from __future__ import annotations

import json

import pytest
from toys import refused, write_task

from mpt import cli
from mpt.catalog.from_python import make_task, task_files
from mpt.catalog.library import find_task
from mpt.data.records import Fault, Record
from mpt.data.taskfile import read_task
from mpt.data.text.messages import Turn, conversation
from mpt.errors import UserError

ASKED = {"role": "user", "content": "What is it?"}
ANSWER = {"role": "assistant", "content": "A bird. "}
RULE = {"role": "system", "content": "Be brief."}
TALK = [RULE, ASKED, ANSWER, {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes."}]


def row(**columns) -> Record:
    return Record("talks.jsonl:3", columns)


def talks_task(folder, rows, **keys):
    path = write_task(folder, "talks", rows=rows, chat=True, **keys)
    content = json.loads(path.read_text())
    for key in {"template", "verbalizer", "instruction"} - keys.keys():
        del content[key]
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "columns",
    [
        {"messages": [RULE, ASKED, ANSWER]},
        {"prompt": [RULE, ASKED], "completion": [ANSWER]},
        {"messages": [RULE, ASKED, ANSWER], "tools": None, "label": 3},
        {"messages": [RULE, ASKED, ANSWER | {"tool_calls": None}], "tools": []},
        {"messages": [RULE, ASKED | {"weight": None}, ANSWER | {"thinking": None}]},
        {"messages": [RULE, ASKED, {"role": "assistant", "content": [{"type": "text", "text": "A bird. "}]}]},
        {
            "messages": [
                RULE | {"role": "developer"},
                ASKED | {"name": None},
                ANSWER | {"function_call": None},
            ]
        },
    ],
)
def test_every_form_is_the_same_conversation(columns):
    assert conversation(row(**columns)) == [Turn(**RULE), Turn(**ASKED), Turn(**ANSWER)]


def test_a_prompt_and_a_completion_may_be_texts():
    found = conversation(row(prompt="What is it?", completion="A bird. "))
    assert found == [Turn(**ASKED), Turn(**ANSWER)]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"messages": [ASKED, ANSWER | {"tool_calls": [{"id": 1}]}]}, r"\[1\]: 'tool_calls' is not"),
        (
            {"messages": [ASKED, ANSWER | {"function_call": {"name": "f"}}]},
            "'function_call' is not",
        ),
        (
            {"messages": [ASKED, {"role": "tool", "content": "4"}]},
            r"\[1\]: role is 'tool', and tool calls",
        ),
        (
            {"prompt": [ASKED], "completion": [ANSWER | {"tool_calls": [1]}]},
            "'tool_calls' is not",
        ),
        (
            {"messages": [ASKED, ANSWER], "tools": [{"type": "function"}]},
            "'tools' is not empty, and",
        ),
        ({"messages": [ASKED, ANSWER | {"reasoning": "so"}]}, r"messages\[1\]: 'reasoning' is not supported"),
        ({"messages": [ASKED | {"role": "usr"}]}, r"messages\[0\]: role is 'usr'; did you mean 'user'"),
        ({"messages": [ASKED | {"content": None}]}, r"messages\[0\]: content must be a text"),
        ({"messages": [ASKED | {"content": [{"type": "image"}]}]}, r"messages\[0\]\.content\[0\] must be"),
        ({"messages": [ASKED | {"content": "\ud800"}]}, r"messages\[0\]: half a surrogate pair"),
        ({"messages": ["hello"]}, r"messages\[0\] must be an object"),
        ({"messages": {"role": "user"}}, "messages must be a list"),
        (
            {"conversations": [ASKED]},
            "no column 'messages', nor 'prompt' .*; it has conversations",
        ),
        ({"messages": None}, "no column 'messages'"),
    ],
)
def test_what_is_no_text_is_refused_by_its_place_and_name(columns, reason):
    with pytest.raises(Fault, match=rf"talks\.jsonl:3: .*{reason}"):
        conversation(row(**columns))


@pytest.mark.parametrize("messages", [[ASKED], [ANSWER], [RULE, ASKED]])
def test_a_row_without_a_reply_cannot_be_learned(messages, tmp_path):
    task = find_task(str(talks_task(tmp_path, [{"messages": messages}])))
    with pytest.raises(Fault, match=r"talks\.jsonl:1: no turn of the assistant"):
        task.example(next(task.source.rows("all")))


def test_the_last_turn_is_learned_or_all_of_them(tmp_path):
    rows = [{"messages": TALK}, {"messages": [*TALK[:3], ASKED]}]
    source = {"train": "talks.jsonl"}
    last, each = (
        list(find_task(str(talks_task(tmp_path, rows, source=source, learned=learned))).examples("train"))
        for learned in ("last", "all")
    )
    assert [example.target for example in last] == ["Yes.", "A bird."]
    assert [example.target for example in each] == ["A bird.", "Yes.", "A bird."]
    assert last[0].conversation == [Turn(**turn) for turn in TALK[:4]]
    assert each[0].conversation == [Turn(**turn) for turn in TALK[:2]]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"messages": [ASKED]}, [Turn(**ASKED)]),
        ({"messages": [ASKED, ANSWER]}, [Turn(**ASKED)]),
        ({"prompt": "What is it?"}, [Turn(**ASKED)]),
        ("What is it?", [Turn(**ASKED)]),
        ({"messages": [*TALK[:3], ASKED]}, [*(Turn(**turn) for turn in TALK[:3]), Turn(**ASKED)]),
    ],
)
def test_a_new_conversation_is_read_up_to_the_reply(given, read, tmp_path):
    task = find_task(str(talks_task(tmp_path, [{"messages": TALK}])))
    (record,) = task.records("inputs", [given])
    assert task.example(record, "").conversation == read


def test_a_system_text_stands_in_front_unless_there_is_one(tmp_path):
    rows = [{"messages": [ASKED, ANSWER]}, {"messages": [RULE, ASKED, ANSWER]}]
    task = find_task(str(talks_task(tmp_path, rows, source={"train": "talks.jsonl"}, system="Use {braces}.")))
    first, second = task.examples("train")
    assert first.conversation[0] == Turn("system", "Use {braces}.")
    assert second.conversation[0] == Turn(**RULE)


def test_a_template_is_the_users_turn(tmp_path):
    task = find_task(str(write_task(tmp_path, "tone", chat=True, system="Use {braces}.")))
    example = task.example(Record("here", {"text": "so {we} go", "label": "yes"}))
    assert example.conversation == [Turn("system", "Use {braces}."), Turn("user", "so {we} go\nSo:")]
    assert (example.target, example.inputs) == ("good", "so {we} go\nSo:")


@pytest.mark.parametrize("suffix", ["chat", "short:chat"])
def test_any_task_is_read_as_a_chat_by_its_name(suffix, tmp_path):
    path = write_task(tmp_path, "tone", template={"long": "{text}\nSo:", "short": "{text}"})
    task = find_task(f"{path}:{suffix}")
    assert (task.chat, task.name) == (True, f"tone:{suffix}")
    assert task.template == ("{text}" if "short" in suffix else "{text}\nSo:")
    assert find_task("movies:chat").chat
    placed = find_task(f"{path}:{suffix}:user")
    assert (placed.place, placed.chat, placed.name) == ("user", True, f"tone:{suffix}:user")
    with pytest.raises(UserError, match="has no template 'user'"):
        find_task("movies:user")


def test_a_file_of_messages_needs_neither_a_template_nor_the_word_chat(tmp_path):
    path = talks_task(tmp_path, [{"messages": TALK}])
    path.write_text("source: talks.jsonl\n")
    assert read_task(path).reads_conversations
    (tmp_path / "talks.jsonl").write_text('{"text": "so"}\n')
    with pytest.raises(UserError, match="missing key 'template'"):
        read_task(path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"chat": "yes"}, "chat must be true or false, not 'yes'"),
        ({"chat": True, "learned": "first"}, "learned is 'first'; last and all are known"),
        ({"chat": True, "learned": "all"}, "learned: only conversations have several turns"),
        ({"system": "Be brief."}, "system: only a chat has one"),
        ({"place": "user"}, "place: only a chat has a user's turn"),
        ({"chat": True, "place": "middle"}, "place is 'middle'; front and user are known"),
    ],
)
def test_a_faulty_chat_is_told(keys, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read_task(write_task(tmp_path, "tone", **keys))


def test_classes_need_a_template(tmp_path):
    with pytest.raises(UserError, match="verbalizer: conversations have replies, not classes"):
        read_task(talks_task(tmp_path, [{"messages": TALK}], verbalizer={"a": "b"}))


def test_rows_in_python_become_a_task_and_its_files(tmp_path):
    task = make_task({"train": [{"messages": TALK}]}, "talks", chat=True, learned="all")
    for name, content in task_files(task).items():
        (tmp_path / name).write_text(content)
    again = read_task(tmp_path / "talks.yaml")
    assert list(again.examples("train")) == list(task.examples("train"))
    assert len(list(again.examples("train"))) == 2


def test_all_faults_of_the_rows_are_told_once_each(tmp_path, capsys):
    rows = [
        {"messages": TALK},
        {"messages": [ASKED, {"role": "tool", "content": "4"}]},
        {"messages": [ASKED]},
    ]
    error = refused(capsys, "tasks", "check", str(talks_task(tmp_path, rows)))
    assert "2 faults" in error


def test_rows_without_faults_are_counted(tmp_path, capsys):
    path = talks_task(tmp_path, [{"messages": [ASKED | {"content": f"{i}?"}, ANSWER]} for i in range(60)])
    assert cli.main(["tasks", "check", str(path)]) == 0
    assert "No faults." in capsys.readouterr().out
