import { STATES, address, ago, ask, byId, duration, fillSelect, fillTable, make, moment, number, page, repeat, show } from "./common.js";
import { budgetsOf, drawCurves } from "./plots.js";
import { startReader } from "./reader.js";
import { overviewOf, pairsOf } from "./tables.js";

const api = `/api${address(page.name, page.version)}`;
const KINDS = { train: "training", import: "import", generate: "generation", grade: "grading", report: "report" };
const STAGES = { train: "waits for its checkpoint", generate: "generating", grade: "grading" };
const count = (done, total) => (total ? { text: `${number(done)}/${number(total)}`, progress: [done, total] } : "");
let curves, state = "running";

const runCells = (run) => [
  { text: run.label, small: run.label === run.name ? "" : run.name },
  { text: run.state, className: `state ${run.state}`, title: run.message, small: run.state === "failed" || run.reason === "Shared" ? run.message : "" },
  count(run.done, run.total), count(run.checkpoints, run.checkpoints_expected),
  run.loss === null ? "" : run.loss.toFixed(4), run.tokens_per_second === null ? "" : number(Math.round(run.tokens_per_second)),
  run.eta_seconds === null ? "" : duration(run.eta_seconds),
];
const taskCells = (task) => [
  { text: `${KINDS[task.kind] || task.kind}, attempt ${task.attempt}`, small: task.unit },
  { text: task.about.slice(0, 3).join(", ") + (task.about.length > 3 ? ` and ${task.about.length - 3} more` : ""), title: task.about.join("\n"), className: "fields" },
  task.phase || "not started", { ...(count(task.done, task.total) || { text: "" }), small: task.counted },
  task.eta_seconds === null ? "" : duration(task.eta_seconds), ago(task.updated),
];
const lineCells = (line) => [
  line.model, `${line.benchmark}/${line.part}`,
  { text: line.state === "running" ? STAGES[line.stage] : line.state, className: `state ${line.state}` },
  count(line.done, line.total), { text: line.state === "done" ? "" : line.message, className: "message" },
];
const failureOf = (task) => {
  const box = make("div", undefined, "callout failure");
  box.append(make("p", `${KINDS[task.kind] || task.kind}, ${task.unit} attempt ${task.attempt}, ${ago(task.updated)}: ${task.about.slice(0, 3).join(", ")}`),
    make("p", `${task.reason}: ${task.message}`, "cause"));
  return box;
};
const drawSummary = (one) => {
  state = one.phase;
  byId("state").textContent = STATES[one.phase] || one.phase;
  byId("state").className = `badge ${one.phase}`;
  const { checkpoints, evaluations } = one;
  const parts = [`accepted ${moment(one.accepted)}`, `base model ${one.base}`, `${number(checkpoints.done)} of ${number(checkpoints.total)} checkpoints`,
    `${number(evaluations.done)} of ${number(evaluations.total)} evaluations${evaluations.failed ? `, ${number(evaluations.failed)} failed` : ""}`,
    `last sign ${ago(one.last_sign)}`];
  byId("meta").replaceChildren(...parts.map((text) => make("span", text)));
  show(byId("report"), one.report);
  byId("report").href = address(page.name, page.version, "/report");
};
const drawStatus = (status) => {
  drawSummary(status.summary);
  fillTable(byId("runs").tBodies[0], status.runs.map((run) => [run.name, runCells(run)]));
  show(byId("runs"), status.runs.length > 0);
  fillTable(byId("tasks").tBodies[0], status.tasks.map((task) => [`${task.unit} ${task.attempt}`, taskCells(task)]));
  show(byId("tasks"), status.tasks.length > 0);
  show(byId("tasks-heading"), status.tasks.length > 0);
  byId("tasks-heading").textContent = `Running tasks: ${number(status.tasks_in_all)}`;
  fillTable(byId("evaluations").tBodies[0], status.evaluations.map((line) => [`${line.model} ${line.benchmark}/${line.part}`, lineCells(line)]));
  show(byId("evaluations-box"), status.evaluations.length > 0);
  byId("evaluations-summary").textContent = `All evaluations: ${number(status.evaluations.filter((line) => line.state === "done").length)} of ${number(status.evaluations.length)} parts are graded`;
  show(byId("failures-box"), status.failures.length > 0);
  byId("failures-summary").textContent = `Failed attempts: ${number(status.failures_in_all)}`;
  byId("failures").replaceChildren(...status.failures.map(failureOf).reverse());
  show(byId("damaged"), status.damaged.length > 0);
  byId("damaged").replaceChildren(make("p", "Damaged records, which are left out:"), ...status.damaged.map((text) => make("p", text, "cause")));
};
const drawPlots = () => {
  if (!curves || !window.Plotly) return;
  const all = [{ label: "", curves }];
  fillSelect(byId("curve-budget"), budgetsOf(all), "own");
  show(byId("no-curves"), drawCurves(byId("curves"), all, byId("curve-budget").value) === 0);
  byId("curve-notes").replaceChildren(...curves.losses.filter((curve) => curve.note).map((curve) => make("li", `${curve.label}: ${curve.note}`)));
};
const drawResults = (results) => {
  if (results === null) return;
  byId("overview").replaceChildren(...overviewOf(results));
  byId("pair-tables").replaceChildren(...pairsOf(results));
};

const reader = startReader(api);
byId("curve-budget").addEventListener("change", drawPlots);
window.addEventListener("load", drawPlots);
for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
repeat(async () => {
  const [status, found, results, readable] = await Promise.all([ask(api), ask(`${api}/curves`), ask(`${api}/results`), ask(`${api}/outputs`)]);
  if (status) drawStatus(status.value);
  if (found?.changed) { curves = found.value; drawPlots(); }
  if (results?.changed) drawResults(results.value);
  if (readable?.changed) reader(readable.value);
  return state === "running" ? 1 : 10;
});
