import { byId, make, number, percent } from "./common.js";

const { colours, symbols, dashes } = JSON.parse(byId("styles").textContent);
const GREY = "#838993", NARROW = 760, DODGE = 0.018;
const style = (index) => ({ colour: colours[index % colours.length], symbol: symbols[index % symbols.length], dash: dashes[index % dashes.length] });
// Plotly reads a few tags in labels: labels of runs are text.
const label = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const drawn = new Map();

const themed = (x, y, share) => {
  const computed = getComputedStyle(document.documentElement), narrow = window.innerWidth < NARROW;
  const ink = computed.getPropertyValue("--ink").trim(), line = computed.getPropertyValue("--line").trim();
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
  const yaxis = { ...axis, title: { text: y, standoff: 8 } };
  if (share) Object.assign(yaxis, { range: [-0.03, 1.03], tickformat: ".0%" });
  return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true, hovermode: "closest", showlegend: true,
    font: { color: ink, size: narrow ? 11 : 12, family: "system-ui, sans-serif" }, margin: { l: 56, r: 12, t: 8, b: 44 },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, dragmode: narrow ? false : "zoom",
    xaxis: { ...axis, title: { text: x }, tickformat: ",d" }, yaxis };
};
const draw = (id) => {
  const { element, data, axes } = drawn.get(id);
  return window.Plotly.react(element, data, themed(...axes), { responsive: true, displayModeBar: false });
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { for (const id of drawn.keys()) draw(id); });

// Notes what the figure of that id in `container` shows; makes it where there is none yet.
const figure = (container, id, title, data, axes) => {
  let held = drawn.get(id);
  if (!held) {
    const box = make("figure"), element = make("div", undefined, "plot");
    element.setAttribute("role", "img");
    box.append(make("figcaption", title), element);
    container.append(box);
    held = { box, element };
    drawn.set(id, held);
  }
  held.box.firstChild.textContent = title;
  held.element.setAttribute("aria-label", title);
  Object.assign(held, { data, axes });
};
const forgetOthers = (wanted) => {
  for (const [id, held] of drawn) if (!wanted.has(id)) { held.box.remove(); drawn.delete(id); }
};

const lossData = (curve, index) => {
  const { colour, symbol, dash } = style(index), x = curve.points.map(([samples]) => samples), y = curve.points.map(([, loss]) => loss);
  const lines = [{ type: "scatter", x, y, name: label(curve.label), mode: x.length < 10 ? "lines+markers" : "lines",
    line: { color: colour, width: 1.5, dash }, marker: { symbol } }];
  if (curve.validation.length) lines.push({ type: "scatter", mode: "markers", name: `${label(curve.label)}, validation`,
    x: curve.validation.map(([samples]) => samples), y: curve.validation.map(([, loss]) => loss),
    marker: { color: colour, symbol: `${symbol}-open`, size: 9 } });
  return lines;
};
const said = (point) => {
  const interval = point.low === null ? "" : `, ${(point.low * 100).toFixed(1)}-${(point.high * 100).toFixed(1)}`;
  return `${percent(point.k / point.n)} (${number(point.k)}/${number(point.n)}${interval})`;
};
const shareData = (series, index, count, widest) => {
  const { colour, symbol, dash } = style(index), points = series.points, value = (point) => point.k / point.n;
  const shift = (index - (count - 1) / 2) * DODGE * widest;
  return { type: "scatter", mode: "lines+markers", name: label(series.label), x: points.map((point) => point.samples + shift), y: points.map(value),
    line: { color: colour, width: 2, dash }, marker: { size: 8, symbol },
    error_y: { type: "data", symmetric: false, thickness: 1, width: 3,
      array: points.map((point) => (point.high ?? value(point)) - value(point)),
      arrayminus: points.map((point) => value(point) - (point.low ?? value(point))) },
    text: points.map((point) => `${said(point)} at ${number(point.samples)}: ${label(point.model)}`), hovertemplate: "%{text}<extra></extra>" };
};
const baseData = (base, name, widest) => {
  const x = [-widest * 0.02, widest * 1.02], value = base.k / base.n, lines = [];
  if (base.low !== null) lines.push({ type: "scatter", mode: "lines", x: [...x, ...[...x].reverse()], y: [base.low, base.low, base.high, base.high],
    fill: "toself", fillcolor: "rgba(131,137,147,0.15)", line: { width: 0 }, hoverinfo: "skip", showlegend: false });
  lines.push({ type: "scatter", mode: "lines", x, y: [value, value], name, line: { color: GREY, width: 1.5, dash: "dash" },
    text: [said(base), said(base)], hovertemplate: "%{text}<extra></extra>" });
  return lines;
};
const WORDS = { accuracy: "Accuracy", completed: "Completion" };

// `all`: answers of /curves, each with the `label` that precedes its runs' labels ("" for one experiment alone).
// `budget`: tokens, or "own": each run at the budget at which the tables show it.
export const drawCurves = (container, all, budget) => {
  const wanted = new Set(), named = (prefix, series) => ({ ...series, label: prefix ? `${prefix} ${series.label}` : series.label });
  const runs = all.flatMap(({ label: prefix, curves }) => curves.losses.map((curve) => `${prefix}\n${curve.run}`));
  const losses = all.flatMap(({ label: prefix, curves }) => curves.losses.map((curve) => named(prefix, curve)));
  const place = (prefix, run) => Math.max(0, runs.indexOf(`${prefix}\n${run}`));
  const plotted = losses.map((curve, index) => [curve, index]).filter(([curve]) => curve.points.length || curve.validation.length);
  if (plotted.length) {
    wanted.add("loss");
    figure(container, "loss", "Training loss against training samples", plotted.flatMap(([curve, index]) => lossData(curve, index)),
      ["Training samples", "Loss, nats per token", false]);
  }
  const names = [...new Set(all.flatMap(({ curves }) => curves.shares.map((curve) => curve.benchmark)))];
  for (const benchmark of names) for (const metric of Object.keys(WORDS)) {
    const own = all.flatMap(({ label: prefix, curves }) => curves.shares
      .filter((curve) => curve.benchmark === benchmark && curve.metric === metric)
      .flatMap((curve) => curve.series.filter((series) => (budget === "own" ? series.shown : String(curve.budget_tokens) === budget))
        .map((series) => ({ series: named(prefix, series), place: place(prefix, series.run), base: curve.base, budget: curve.budget_tokens, prefix }))));
    if (!own.length) continue;
    const widest = Math.max(1, ...own.flatMap(({ series }) => series.points.map((point) => point.samples)));
    const bases = new Map(own.filter(({ base }) => base).map(({ base, prefix, budget: at }) =>
      [`${prefix}${prefix ? " " : ""}base at ${number(at)} tokens`, base]));
    const data = [...own.map(({ series, place: index }) => shareData(series, index, runs.length, widest)),
      ...[...bases].flatMap(([name, base]) => baseData(base, label(name), widest))];
    const id = JSON.stringify([benchmark, metric]);
    wanted.add(id);
    figure(container, id, `${benchmark}: ${WORDS[metric].toLowerCase()} against training samples`, data, ["Training samples", WORDS[metric], true]);
  }
  forgetOthers(wanted);
  wanted.forEach(draw); // only now: how wide each is depends on how many there are
  return wanted.size;
};
export const budgetsOf = (all) => {
  const found = new Set(all.flatMap(({ curves }) => curves.shares.map((curve) => curve.budget_tokens)));
  return [["own", "each run's own"], ...[...found].sort((a, b) => a - b).map((tokens) => [String(tokens), number(tokens)])];
};
