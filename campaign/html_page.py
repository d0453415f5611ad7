"""A self-contained HTML page: tiles, and sections of text, figures and tables."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, select_autoescape


@dataclass(slots=True)
class Picture:
    """A figure in the page."""

    name: str
    caption: str
    png: bytes

    @property
    def data(self) -> str:
        """For a data URL."""
        return base64.b64encode(self.png).decode()


@dataclass(slots=True)
class Section:
    """A heading of the page and what stands under it."""

    title: str
    text: str = ""
    pictures: list[Picture] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    listing: str = ""


def html_page(
    title: str, lead: str, tiles: Sequence[tuple[str, str]], sections: Sequence[Section]
) -> str:
    """The page as text; a tile is (value, label)."""
    text = (files("campaign") / "templates" / "report.html").read_text()
    environment = Environment(autoescape=select_autoescape(default=True), undefined=StrictUndefined)
    return environment.from_string(text).render(
        title=title, lead=lead, tiles=tiles, sections=sections
    )
