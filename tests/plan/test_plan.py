"""`mpt plan` itself: what it refuses, and real compilations for chips that are not here."""

import importlib.util
import json
import sys

import pytest
from toys import write_task

from mpt import cli
from mpt.comparison.config import CompareConfig
from mpt.config.options import MeshConfig
from mpt.config.pretrain import PretrainConfig
from mpt.config.yaml_file import find_config, kind_of, load_config
from mpt.errors import UserError
from mpt.methods import AdaptConfig
from mpt.plan.chips import Topology
from mpt.plan.reading import outline
from mpt.plan.stages import stages
from mpt.plan.worker import compiled
from mpt.recipes.plan import job_of

TINY = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "tie_word_embeddings": True,
}
needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu, of the extra `plan`, is not installed"
)


@pytest.fixture
def config(tmp_path):
    """A pretraining of two toy tasks on a tiny model without weights."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY))
    tasks = [str(write_task(tmp_path, name)) for name in ("tone", "colour")]
    path = tmp_path / "tiny.yaml"
    stage = {"steps": 10, "batch_size": 8}
    plain = {"model": {"name": str(folder), "dtype": "bfloat16"}, "tasks": tasks, "max_length": 30}
    path.write_text(json.dumps(plain | {"teachers": stage, "universal": stage}))
    return path


@pytest.mark.parametrize("name", ["v5e", "v5e:4x4x4", "v5p:4x4", "v9:2x2", "4x4", "v5e:0x4", "v5e:4x"])
def test_an_unknown_topology_is_one_line_with_known_forms(name):
    with pytest.raises(UserError, match=r"^--topology '.*': not known; .*v5e:4x4.*v5p:4x4x4$"):
        Topology.of(name)


def test_without_the_compiler_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[plan\]'`$"):
        Topology.of("v5e:4x4").environment()


KINDS = PretrainConfig, AdaptConfig, CompareConfig


@pytest.fixture(autouse=True)
def promotion_of_jax(monkeypatch):
    """Of the processes that compile: JAX's own attention mixes bfloat16 and float32."""
    monkeypatch.setenv("JAX_NUMPY_DTYPE_PROMOTION", "standard")


def test_a_config_file_tells_its_kind(tmp_path, config):
    assert kind_of(config, KINDS) is PretrainConfig
    assert kind_of(find_config("quickstart"), KINDS) is CompareConfig
    assert kind_of(find_config("few_shot"), KINDS) is AdaptConfig
    heir = tmp_path / "heir.yaml"
    heir.write_text("base: quickstart\nout: runs/heir\n")
    assert kind_of(heir, KINDS) is CompareConfig


def test_a_config_with_another_backbone(config, capsys, monkeypatch):
    monkeypatch.setattr(Topology, "check_installed", lambda _: None)
    assert cli.main(["plan", str(config), "--backbone", "llama-8b", "--topology", "v5e:2x2"]) == 2
    assert "did you mean 'llama-7b'" in capsys.readouterr().err


@needs_compiler
@pytest.mark.full
def test_a_plan_for_four_chips(config, tmp_path):
    """The step compiles; its figures are those of the shapes, and a mesh divides them as it says."""
    file = tmp_path / "plan.json"
    arguments = ["plan", str(config), "--topology", "v5e:2x2", "--tries", "2", "--json", str(file)]
    assert cli.main(arguments) == 0
    found = json.loads(file.read_text())
    assert [stage["name"] for stage in found["stages"]] == ["teachers", "universal"]
    for stage in found["stages"]:
        assert stage["fits"] and stage["rows_in_all"] == 80
        assert stage["hours"] == pytest.approx(80 / stage["rows"] * stage["seconds"] / 3600)
    one = found["best"]
    assert one["basis"] == "cycles"
    assert one["weights"] + one["activations"] + one["temporaries"] < one["memory"] < 16 * 2**30
    assert 0 < one["share_of_peak"] < 1
    assert one["collectives"]["all-reduce"] > 0


@needs_compiler
@pytest.mark.full
def test_meshes_divide_weights_and_send_what_they_must(config):
    there = Topology.of("v5e:2x2")
    pretraining = load_config(PretrainConfig, config)
    planned = stages(pretraining, outline(pretraining.model))[1][0]
    job = job_of(planned, pretraining.model, there.chip, there.name)
    found = {
        mesh: compiled(job.on(MeshConfig(*mesh), 8), there.environment(), patience=200)
        for mesh in [(4, 1, 1), (1, 4, 1)]
    }
    assert not any(each.fault for each in found.values())
    whole, dealt = found[4, 1, 1], found[1, 4, 1]
    assert dealt.weights == pytest.approx(whole.weights / 4, rel=0.05)  # norms stay whole
    # Rows alone: only the prompts' gradient and the figures cross the network, whatever the layers.
    assert sum(whole.collectives.values()) < 3 * 4 * planned.stage.trained
    matrices = 4 * dealt.weights - 4 * 512 * 256 * 2 / 4  # all but the token table, which is not in the loop
    assert dealt.collectives["all-gather"] > matrices
