"""Pages that need no server and no network: filled from a template, their data inert whatever it holds."""

import json
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

_INERT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def inert(data: Any) -> Markup:
    """Data as JSON for a script element: a `</script>` in it ends nothing."""
    content = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for letter, code in _INERT.items():
        content = content.replace(letter, code)
    return Markup(content)


def filled(place: str, template: str, **values: Any) -> bytes:
    """A page of the template in that folder of the package, as UTF-8; whatever is put into it is escaped."""
    environment = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string((files("errata") / place / template).read_text(encoding="utf-8"))
    return page.render(**values).encode("utf-8", "replace")
