"""The base of everything a YAML file can set: frozen, and closed to unknown keys."""

from __future__ import annotations

import inspect
import re
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

_PARAMETERS = re.compile(r"^Parameters\n-{3,}\n(.*?)(?=^\S[^\n]*\n-{3,}$|^See `|\Z)", re.M | re.S)
_ENTRY = re.compile(r"^(\w[\w, ]*)\n((?:(?: +[^\n]*)?(?:\n|\Z))+)", re.M)


class Settings(BaseModel):
    """Frozen pydantic model whose constructor is its schema; unknown keys are faults.

    A switch takes true or false only, so that the word ``no`` is never read as false, and a number is never a switch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, arbitrary_types_allowed=False)

    @field_validator("*", mode="before")
    @classmethod
    def _switches_are_switches(cls, value: Any, info: ValidationInfo) -> Any:
        wanted = cls.model_fields[str(info.field_name)].annotation
        kinds = {wanted, *get_args(wanted)}
        if bool in kinds and isinstance(value, str | int) and not isinstance(value, bool) and type(value) not in kinds:
            raise ValueError(f"expected true or false, found {value!r}; write true or false")
        if isinstance(value, bool) and bool not in kinds and kinds & {int, float}:
            raise ValueError(f"expected a number, found {str(value).lower()}; write a number")
        return value

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """Return what each field means: as the docstring of the class or of one it inherits from says, or the field."""
        said = {name: field.description for name, field in cls.model_fields.items() if field.description}
        for one in reversed(cls.__mro__):
            for found in _PARAMETERS.findall(inspect.cleandoc(one.__doc__ or "")):
                for names, text in _ENTRY.findall(found):
                    said |= dict.fromkeys(re.split(r", *", names.strip()), " ".join(text.split()))
        return {name: said[name] for name in cls.model_fields if name in said}
