"""The libraries that draw a page's charts, as one script."""

from __future__ import annotations

import functools
from concurrent.futures import Future, ThreadPoolExecutor

import vl_convert


def script() -> str:
    """Vega, Vega-Lite and Vega-Embed with Vega's expression interpreter, as vl-convert brings them."""
    return begin().result()


@functools.cache
def begin() -> Future[str]:
    """Start to put the script together, which takes seconds of another core, and return at once."""
    return ThreadPoolExecutor(max_workers=1).submit(_script)


def _script() -> str:
    made = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    return made.replace("</script", "<\\/script").replace("<!--", "<\\!--")
