"""The JSON Schema of the configuration's files, for editors: every key with its type, limits and description."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from exoflow.config.model import Account, Main

FILES: dict[str, type[BaseModel]] = {"main": Main, "account": Account}


def schema(file: str | None = None) -> dict[str, Any]:
    """The schema of the `main` file, of an `account`'s, or one that takes either."""
    models = [FILES[file]] if file is not None else list(FILES.values())
    refs, definitions = models_json_schema([(model, "validation") for model in models])
    choice = [refs[(model, "validation")] for model in models]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"exoflow, {file} file" if file is not None else "exoflow, main file or an account's file",
        **(choice[0] if file is not None else {"anyOf": choice}),
        "$defs": definitions["$defs"],
    }
