"""Pages of a list: one shape for all of them, and one way to cut them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Literal, Self, TypeVar

from pydantic import BaseModel, Field

View = TypeVar("View")
Item = TypeVar("Item", bound=BaseModel)
Cursor = TypeVar("Cursor", str, int)


class Page(BaseModel, Generic[Item, Cursor]):
    """A page of a list."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    next_cursor: Cursor | None = Field(description="Pass it as `after` to get the next page; null on the last.")

    @classmethod
    def cut(
        cls, found: Sequence[View], *, limit: int, render: Callable[[View], Item], cursor: Callable[[View], Cursor]
    ) -> Self:
        """Render the first `limit` of what was found; one more than these tells that another page follows."""
        shown = found[:limit]
        more = len(found) > limit
        return cls(
            data=[render(view) for view in shown], has_more=more, next_cursor=cursor(shown[-1]) if more else None
        )
