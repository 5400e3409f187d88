"""Models of sentence-transformers: modules in folders of their own, pruned whole, and loaded again."""

from pathlib import Path
from typing import Any

import pytest
from foreign_tools import library

from prunecli.cli.app import run
from prunecli.formats.opening import open_any

transformers: Any = library("transformers")
sentence_transformers: Any = library("sentence_transformers")
models: Any = library("sentence_transformers.models")
pytestmark = [pytest.mark.foreign, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("bert")
    (path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n")
    config = transformers.BertConfig(
        vocab_size=8,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    transformers.BertModel(config).save_pretrained(path)
    transformers.BertTokenizerFast(str(path / "vocab.txt")).save_pretrained(path)
    return str(path)


def modules(bert: str) -> list[Any]:
    return [models.Transformer(bert), models.Pooling(16), models.Dense(16, 8)]


def prune(source: Path, target: Path) -> Any:
    asked = ["-p", "*.weight", "-a", "0.5", "--min-dim", "2", "--seed", "7", "--remove", "-o", str(target)]
    assert run(["apply", str(source), *asked]) == 0
    return sentence_transformers.SentenceTransformer(str(target), device="cpu")


def assert_half_zero(model: Any) -> None:
    matrices = [each for name, each in model.named_parameters() if each.dim() == 2 and name.endswith("weight")]
    assert len(matrices) > 8
    # The embedding of the padding token was zero before.
    assert all(0 <= int((each == 0).sum()) - each.numel() // 2 <= 16 for each in matrices)


def test_a_model_with_a_dense_layer_loads_again(tmp_path: Path, bert: str) -> None:
    sentence_transformers.SentenceTransformer(modules=modules(bert), device="cpu").save(str(tmp_path / "m"))
    with open_any(tmp_path / "m") as opened:
        assert {"pooler.dense.weight", "2_Dense/linear.weight"} <= set(opened.tensors)
    loaded = prune(tmp_path / "m", tmp_path / "out")
    assert_half_zero(loaded)
    assert loaded.encode(["a b"]).shape == (1, 8)


def test_a_router_with_models_for_queries_and_documents_loads_again(tmp_path: Path, bert: str) -> None:
    router = models.Router.for_query_document(query_modules=modules(bert), document_modules=modules(bert))
    model = sentence_transformers.SentenceTransformer(modules=[router, models.Normalize()], device="cpu")
    model.save(str(tmp_path / "m"))
    with open_any(tmp_path / "m") as opened:
        assert {name.partition("/")[0] for name in opened.tensors} == {
            "query_0_Transformer",
            "query_2_Dense",
            "document_0_Transformer",
            "document_2_Dense",
        }
    assert_half_zero(prune(tmp_path / "m", tmp_path / "out"))
