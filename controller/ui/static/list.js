import { STATES, address, ago, ask, byId, fillSelect, fillTable, make, moment, number, page, query, repeat, show } from "./common.js";

let experiments = [];
const chosen = new Set();

const choice = (one) => ({ key: one.id, make: () => {
  const box = make("input");
  box.type = "checkbox";
  box.checked = chosen.has(one.id);
  box.setAttribute("aria-label", `compare ${one.id}`);
  box.addEventListener("change", () => {
    if (box.checked) chosen.add(one.id); else chosen.delete(one.id);
    byId("compare").disabled = chosen.size !== 2;
  });
  return box;
} });
const differs = (one) => {
  const fields = one.differs_from_newest_in;
  if (fields === null) return "";
  return fields.length ? fields.join(", ") : "nothing that is asked";
};
const cells = (one) => {
  const name = { text: one.id, href: address(one.name, one.version), small: one.runs.join(", ") };
  const state = { text: STATES[one.phase] || one.phase, className: `state ${one.phase}` };
  if (one.error) return [{}, name, state, { text: one.error, className: "error" }, "", "", ago(one.last_sign), ""];
  const { checkpoints, evaluations, steps } = one;
  const training = steps && steps.done < steps.total ? `step ${number(steps.done)} of ${number(steps.total)}` : "";
  const failed = evaluations.failed ? `${number(evaluations.failed)} failed` : "";
  const count = (counted) => ({ text: `${number(counted.done)}/${number(counted.total)}`, progress: [counted.done, counted.total] });
  return [
    { node: choice(one) }, name, state,
    { ...count(checkpoints), small: training },
    evaluations.total ? { ...count(evaluations), small: failed } : "",
    moment(one.accepted), ago(one.last_sign), { text: differs(one), className: "fields" },
  ];
};
const draw = () => {
  const words = byId("filter").value.toLowerCase(), state = byId("state").value;
  const shown = experiments.filter((one) => (!state || one.phase === state)
    && [one.id, one.base, ...one.runs].some((text) => text.toLowerCase().includes(words)));
  fillTable(byId("experiments"), shown.map((one) => [one.id, cells(one)]), 1);
  show(byId("experiments").closest("table"), experiments.length > 0);
  show(byId("none"), shown.length === 0);
  byId("none").textContent = experiments.length ? "No experiment is like that." : "The store has no experiment yet.";
  const running = experiments.filter((one) => one.phase === "running").length;
  const parts = [page.store, `${number(experiments.length)} ${experiments.length === 1 ? "experiment" : "experiments"}`, `${running} running`];
  byId("meta").replaceChildren(...parts.map((text) => make("span", text)));
};
byId("filter").addEventListener("input", draw);
byId("state").addEventListener("change", draw);
byId("choose").addEventListener("submit", (event) => event.preventDefault());
byId("compare").addEventListener("click", () => {
  const [first, second] = experiments.filter((one) => chosen.has(one.id)).map((one) => one.id);
  location.href = `/compare${query({ old: second, new: first })}`;
});
repeat(async () => {
  const found = await ask("/api/experiments");
  if (found !== undefined) {
    experiments = found.value.experiments;
    const states = [...new Set(experiments.map((one) => one.phase))];
    fillSelect(byId("state"), [["", "all"], ...states.map((phase) => [phase, STATES[phase] || phase])], "");
    draw();
  }
  return experiments.some((one) => one.phase === "running") ? 2 : 5;
});
