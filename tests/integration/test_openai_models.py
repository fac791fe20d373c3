"""`client.models` of OpenAI's SDK."""

from __future__ import annotations

import base64

import openai
import pytest

from core import leases
from tests.domain import png

LARGE = "microsoft/trocr-large-handwritten"
CARD = {
    "name": "microsoft/trocr-small-handwritten@1a2b",
    "revision": "1a2b",
    "sha256": "0" * 64,
    "device": "cuda:0",
    "dtype": "bfloat16",
    "parameters": 61_596_672,
}


def test_the_list_has_what_workers_serve_first_and_then_what_they_could(client: openai.OpenAI) -> None:
    leases.register([CARD])
    models = client.models.list().data
    assert [model.id for model in models if model.loaded] == [CARD["name"]]  # type: ignore[attr-defined]
    assert models[0].id == CARD["name"]
    assert {"trocr-tiny", "ppocr-v6", LARGE, "microsoft/trocr-base-str"} <= {model.id for model in models}
    assert len(models) == len({model.id for model in models}) == 9


@pytest.mark.parametrize("name", [CARD["name"], "microsoft/trocr-small-handwritten", "trocr-small-handwritten"])
def test_a_loaded_model_tells_what_is_known_of_it_and_what_was_loaded(client: openai.OpenAI, name: str) -> None:
    leases.register([CARD])
    model = client.models.retrieve(name).to_dict()
    assert model["id"] == CARD["name"]
    assert {field: model[field] for field in ("revision", "sha256", "device", "dtype", "parameters")} == {
        field: CARD[field] for field in ("revision", "sha256", "device", "dtype", "parameters")
    }
    assert (model["loaded"], model["how_to_load"], model["fine_tuned_on"]) == (True, None, "IAM")
    assert model["price"] == {"interactive": 1.5, "normal": 1, "bulk": 0.5}
    assert model["figures"] == [
        {
            "dataset": "IAM",
            "metric": "cer",
            "value": 0.0422,
            "source": "https://github.com/microsoft/unilm/tree/master/trocr (beam search, 10 beams)",
        }
    ]


def test_a_known_model_that_nobody_serves_says_how_to_load_it(client: openai.OpenAI) -> None:
    model = client.models.retrieve(LARGE).to_dict()
    assert (model["loaded"], model["sha256"], model["created"], model["parameters"]) == (False, None, 0, 558_000_000)
    assert LARGE in str(model["how_to_load"])
    assert model["price"] == {"interactive": 6, "normal": 4, "bulk": 2}


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("gpt-4o")
    assert refused.value.code == "model_not_found"


def test_a_job_for_a_model_that_nobody_serves_says_how_to_load_it(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.post(
            "/jobs", body={"images": [{"base64": base64.b64encode(png()).decode()}], "model": LARGE}, cast_to=object
        )
    assert (refused.value.code, refused.value.param) == ("model_not_loaded", "model")
    assert "INKQUEUE_MODELS" in refused.value.message


def test_a_job_may_name_a_model_by_its_short_id(client: openai.OpenAI) -> None:
    leases.register([CARD])
    image = {"base64": base64.b64encode(png()).decode()}
    job = client.post("/jobs", body={"images": [image], "model": "trocr-small-handwritten"}, cast_to=object)
    assert isinstance(job, dict)
    assert job["model"] == CARD["name"]
