// The controls and the one path from a change to what is shown: choose() makes a state, show() draws it.

const SLIDER_END = 1000; // at its end there is no limit
const board = new Board(JSON.parse(byId("board").textContent));
const form = byId("filters");
let state;

function choose(change) {
  if ("cost" in change && change.cost !== state.cost) change.max = null;
  state = normalised(board.data, { ...state, ...change });
  const hash = hashOfState(board.data, state);
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  show();
}

function show() {
  const entries = board.chosen(state);
  const shown = entries.filter((entry) => board.affordable(entry, state));
  showControls();
  showDefinition(board, state);
  showTable(entries, shown);
  drawPlots(board, state, shown);
  showRanks(board, state);
  showFailures(board, entries);
}

function showTable(entries, shown) {
  const key = document.activeElement?.dataset?.key;
  const { table, by, n } = resultsTable(board, state, shown, entries, (sort, reverse) => choose({ sort, reverse }));
  byId("table").replaceChildren(
    n ? table : h("p", { class: "muted" }, "No entry fits: raise the budget or choose more methods."),
  );
  if (key) [...table.querySelectorAll("button")].find((button) => button.dataset.key === key)?.focus();
  const over = entries.length - shown.length;
  byId("status").textContent =
    `${plural(n, "line")}, sorted by “${by.name}”${state.reverse ? ", reversed" : ""}` +
    (over ? `; ${over} of ${entries.length} results over the budget` : "") +
    ".";
  showMarks(board, state, entries);
}

function showControls() {
  const choices = choicesOf(board.data, state);
  const names = {
    run: (run) => (run === ALL ? "All runs" : run),
    task: (task) => (task === ALL ? "All tasks" : task),
    metric: (column) => nameOf(board, column),
    cost: (cost) => board.costName(cost),
  };
  for (const [name, label] of Object.entries(names)) {
    form.elements[name].replaceChildren(...choices[name].map((value) => h("option", { value }, label(value))));
    form.elements[name].value = state[name];
  }
  byId("every").checked = state.every;
  byId("every-label").hidden = state.task === ALL;
  const there = new Set(board.chosen({ ...state, task: ALL, methods: board.data.methods }).map(({ method }) => method));
  for (const box of byId("methods").querySelectorAll("input")) {
    box.checked = state.methods.includes(box.value);
    box.parentElement.hidden = !there.has(box.value); // a method that the run lacks is no choice
  }
  const { max, slider } = form.elements;
  if (document.activeElement !== max) max.value = state.max ?? "";
  slider.value = state.max === null ? SLIDER_END : Math.round(SLIDER_END * shareOf(state.max));
  slider.setAttribute(
    "aria-valuetext",
    state.max === null ? "no limit" : `${state.max} ${board.costs.get(state.cost).unit}`,
  );
}

// The slider runs over the costs of the chosen run and task by their logarithm.
function costRange() {
  const costs = board
    .chosen({ ...state, methods: board.data.methods })
    .map((entry) => entry.cost[state.cost]?.mean)
    .filter((cost) => cost > 0);
  return costs.length ? [Math.min(...costs), Math.max(...costs)].map(Math.log10) : [0, 1];
}

function shareOf(cost) {
  const [low, high] = costRange();
  return cost > 0 ? Math.min(1, Math.max(0, (Math.log10(cost) - low) / (high - low || 1))) : 0;
}

function costAt(position) {
  if (position >= SLIDER_END) return null;
  const [low, high] = costRange();
  return Number((10 ** (low + (position / SLIDER_END) * (high - low))).toPrecision(3));
}

function listen() {
  byId("methods").replaceChildren(
    ...board.data.methods.map((method) =>
      h(
        "label",
        { class: "method" },
        h("input", { type: "checkbox", value: method }),
        methodMark(board, method),
        method,
      ),
    ),
  );
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const name of ["run", "task", "metric", "cost"]) {
    form.elements[name].addEventListener("change", (event) => choose({ [name]: event.target.value }));
  }
  form.elements.max.addEventListener("input", ({ target }) =>
    choose({ max: target.value === "" ? null : Number(target.value) }),
  );
  form.elements.slider.addEventListener("input", ({ target }) => choose({ max: costAt(Number(target.value)) }));
  byId("methods").addEventListener("change", () =>
    choose({
      methods: [...byId("methods").querySelectorAll("input:checked")].map((box) => box.value),
    }),
  );
  byId("every").addEventListener("change", ({ target }) => choose({ every: target.checked }));
  byId("every-method").addEventListener("click", () => choose({ methods: board.data.methods }));
  byId("no-method").addEventListener("click", () => choose({ methods: [] }));
  byId("reset").addEventListener("click", () => choose({ ...normalised(board.data, {}) }));
  // The hash is the view's: the skip link moves the focus and leaves it alone.
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("results").focus();
  });
  addEventListener("hashchange", () => {
    state = stateFromHash(board.data, location.hash);
    show();
  });
  new ResizeObserver(() => {
    for (const part of byId("plots").children) part.draw?.();
  }).observe(byId("plots"));
}

const { entries, tasks, methods } = board.data;
byId("summary").textContent =
  ` · ${plural(methods.length, "method")} · ${plural(tasks.length, "task")}` +
  ` · ${plural(entries.length, "result")} over seeds`;
state = stateFromHash(board.data, location.hash);
byId("app").hidden = false;
listen();
showSources(board);
show();
