"""Measures a page's layout in a browser."""

WIDER_CELLS = """(() => {
  const found = [];
  for (const cell of document.querySelectorAll('th, td')) {
    if (!cell.offsetParent) continue;
    const range = document.createRange();
    range.selectNodeContents(cell);
    const text = range.getBoundingClientRect(), box = cell.getBoundingClientRect();
    if (text.width && (text.right > box.right + 1 || text.left < box.left - 1))
      found.push(cell.textContent.trim().slice(0, 60));
  }
  return found;
})()"""
"""Returns the texts of visible table cells whose content is wider than the cell."""

CELLS = "[...document.querySelectorAll('th, td')].filter((cell) => cell.offsetParent).length"
OPEN_ALL = "(document.querySelectorAll('details').forEach((element) => { element.open = true; }), true)"
PAGE_WIDTH = "document.documentElement.scrollWidth"


def style(rules: str) -> str:
    """Adds CSS rules to the page. The page's policy allows inline styles."""
    return f"(() => {{ const s = document.createElement('style'); s.textContent = {rules!r}; document.head.append(s); return true; }})()"
