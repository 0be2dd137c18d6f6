import { make, number } from "./common.js";

const SYMBOLS = { higher: "▲", lower: "▼", equal: "=", same: "≈" };
export const delta = (change) => {
  const element = make("span", undefined, `delta ${change.mark}`);
  element.title = change.title;
  element.append(make("span", SYMBOLS[change.mark] || "", "symbol"), ` ${change.text} `, make("small", change.interval));
  return element;
};
export const table = (className, label, headings, groups) => {
  const box = make("div", undefined, "scroll"), made = make("table", undefined, className), head = make("tr");
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", label);
  for (const heading of headings) {
    const cell = make("th", heading);
    cell.scope = "col";
    head.append(cell);
  }
  const top = make("thead");
  top.append(head);
  made.append(top);
  for (const { title, rows } of groups) {
    const body = make("tbody");
    if (title) {
      const row = make("tr", undefined, "group"), cell = make("th", title);
      cell.colSpan = headings.length;
      row.append(cell);
      body.append(row);
    }
    body.append(...rows);
    made.append(body);
  }
  box.append(made);
  return box;
};
const valueCell = (cell) => {
  const element = make("td");
  element.dataset.heading = cell.heading;
  if (cell.value === null || cell.value === undefined) element.append(make("span", cell.missing, "missing"));
  else element.append(make("b", cell.value), " ", make("small", cell.counts), " ", ...(cell.change ? [delta(cell.change)] : []));
  return element;
};
const overviewRow = (row) => {
  const element = make("tr", undefined, row.is_base ? "base" : row.is_best ? "best" : ""), head = make("th", row.label);
  head.scope = "row";
  if (row.is_best) head.append(" ", make("span", "★ best", "tag"));
  if (!row.is_base) head.append(" ", make("code", row.model));
  if (row.fields) {
    const fields = make("small", row.fields);
    fields.title = row.all_fields;
    head.append(" ", fields);
  }
  element.append(head, ...row.cells.map(valueCell));
  return element;
};
const groupTitle = (groups, budget) => (groups.length > 1 ? `At ${number(budget)} tokens` : "");
export const overviewOf = ({ overview, comparisons, state }) => {
  const headings = ["Last checkpoint", ...(overview.groups[0]?.rows[0]?.cells.map((cell) => cell.heading) || [])];
  const groups = overview.groups.map((group) => ({ title: groupTitle(overview.groups, group.budget_tokens), rows: group.rows.map(overviewRow) }));
  const parts = [make("p", overview.headline, "lead")];
  for (const cause of overview.causes.slice(0, 3)) {
    const box = make("div", undefined, "callout failure");
    box.append(make("p", `${cause.where} failed:`), make("p", cause.text, "cause"));
    parts.push(box);
  }
  parts.push(table("overview", "last checkpoint of each run", headings, groups));
  if (comparisons) parts.push(make("p", `▲ higher, ▼ lower than the base on the same problems, ≈ not distinguishable from it, = equivalent within 5 points. Differences are in points. Verdicts and intervals are adjusted for the ${number(comparisons)} comparisons of the report, at 5% for all together.${state === "running" ? " Verdicts may change as results arrive." : ""}`, "hint legend"));
  if (overview.flat.length || overview.warnings.length) {
    const list = make("ul", undefined, "notices");
    list.append(...overview.warnings.map((warning) => make("li", `${warning.runs}: ${warning.text}`)), ...overview.flat.map((line) => make("li", line)));
    parts.push(list);
  }
  return parts;
};
const pairRow = (row) => {
  const element = make("tr"), head = make("th");
  head.scope = "row";
  head.append(make("code", row.first), " ", make("code", row.second), " ", make("small", row.differs));
  element.append(head, ...row.cells.map((cell) => {
    const made = make("td");
    made.dataset.heading = cell.heading;
    if (cell.change) made.append(delta(cell.change));
    else {
      const missing = make("span", "not compared", "missing");
      missing.title = cell.missing;
      made.append(missing);
    }
    return made;
  }));
  return element;
};
export const pairsOf = ({ last_pairs: pairs, budgets }) => {
  if (pairs === null) return [make("p", "No two runs are compared.", "hint")];
  const groups = pairs.groups.map((group) => ({ title: groupTitle(budgets, group.budget_tokens), rows: group.rows.map(pairRow) }));
  return [make("p", "The first less the second, in points, on the problems that both answered. ▲ the first is higher, ▼ the second is higher, ≈ not distinguishable, = equivalent within 5 points.", "hint"),
    table("pairs", "last checkpoints of two runs", ["First and second", ...pairs.columns], groups)];
};
