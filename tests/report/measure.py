"""What a page's layout is measured by in a browser."""

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
"""Texts of visible table cells whose content reaches over the cell's border."""

CELLS = "[...document.querySelectorAll('th, td')].filter((cell) => cell.offsetParent).length"
OPEN_ALL = "(document.querySelectorAll('details').forEach((element) => { element.open = true; }), true)"
PAGE_WIDTH = "document.documentElement.scrollWidth"


def style(rules: str) -> str:
    """Adds CSS rules to the page. The policy of the page allows styles that are written in it."""
    return f"(() => {{ const s = document.createElement('style'); s.textContent = {rules!r}; document.head.append(s); return true; }})()"
