"""What a browser fetches by itself, without a click: a page of the site may load nothing from another host.

Called by the hooks of the site and by its tests.
"""

from __future__ import annotations

import re

LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b(?![^>]*\brel=["']?canonical)[^>]*\bhref=["']?(?:https?:)?//|url\(["']?(?:https?:)?//"""
    r"""|@import ["']?(?:https?:)?//"""
)
"""Found in HTML or CSS that loads from another host."""
