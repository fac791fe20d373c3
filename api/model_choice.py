"""Which model a caller means: one that workers serve, whatever of its names is written."""

from __future__ import annotations

from api.model_schemas import how_to_load
from core.catalogue import catalogue, follows_beams, known_as, served_as
from core.database import looking
from core.errors import BeamsNotAvailable, ModelNotFound, ModelNotLoaded
from core.leases import served_models
from core.settings import settings


def chosen_model(name: str | None, *, beams: int) -> str:
    """The name under which workers serve the model; None is the service's default.

    A model that the service is configured with is taken also while its worker is away: the job waits for it.

    Args:
        name: As the caller writes it.
        beams: How many the caller asks for.

    Raises:
        BeamsNotAvailable: It cannot follow them: they would be charged and change nothing.
        ModelNotLoaded: It is known, but nobody serves it.
        ModelNotFound: It is not known.
    """
    model = _served_model(name)
    if beams > 1 and not follows_beams(model):
        raise BeamsNotAvailable(f"{model} reads without beams: leave them out, or name another model", param="beams")
    return model


def _served_model(name: str | None) -> str:
    if name is None:
        return settings().default_model
    configured = settings().models
    if (served := served_as(name, configured)) is not None:
        return served
    with looking() as connection:
        loaded = [model["name"] for model in served_models(connection)]
    if (served := served_as(name, loaded)) is not None:
        return served
    raise unusable_model(name, sorted({*configured, *loaded}))


def unusable_model(name: str, usable: list[str]) -> ModelNotFound | ModelNotLoaded:
    """Why a model that nobody serves cannot be used, and what to do."""
    if known_as(name) in catalogue():
        return ModelNotLoaded(f"no worker has loaded {name}; {how_to_load(known_as(name))}", param="model")
    return ModelNotFound(f"there is no model {name}; these are here: {', '.join(usable)}", param="model")
