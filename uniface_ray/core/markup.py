"""HTML and SVG elements that escape what they hold."""

from xml.etree.ElementTree import Element, tostring


def el(tag: str, *children: Element | str, **attributes: str | float) -> Element:
    """An element with its children in order; text and attributes are escaped when it is written.

    Attribute names take `_` for `-`, and a trailing one where Python reserves the word: `class_`.
    """
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    node = Element(tag, {names[name]: _clean(value) for name, value in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            node.append(child)
        elif len(node):
            node[-1].tail = (node[-1].tail or "") + _clean(child)
        else:
            node.text = (node.text or "") + _clean(child)
    return node


def to_html(node: Element) -> str:
    """The element as HTML5."""
    return tostring(node, encoding="unicode", method="html")


def _clean(value: str | float) -> str:
    if not isinstance(value, str):
        return f"{value:g}" if isinstance(value, float) else str(value)
    # File names may hold bytes that are not UTF-8 (lone surrogates in Python), and a page cannot.
    return value.encode("utf-8", "replace").decode()
