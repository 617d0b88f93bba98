// Which entries a state shows, which of them are best, and which lie on the Pareto front.

// A metric's loss: the smaller the better; null where its direction gives no order.
function lossOf(metric, mean) {
  if (metric.direction === "lower") return mean;
  if (metric.direction === "higher") return -mean;
  const target = Number(metric.direction);
  return metric.direction.trim() !== "" && Number.isFinite(target) ? Math.abs(mean - target) : null;
}

function directionOf(metric) {
  if (metric.direction === "lower" || metric.direction === "higher") return `${metric.direction} is better`;
  return `best at ${metric.direction}`;
}

class Board {
  constructor(data) {
    this.data = data;
    this.tasks = new Map(data.tasks.map((task) => [task.name, task]));
    this.costs = new Map(data.costs.map((cost) => [cost.column, cost]));
    this.seeds = new Map(); // of each run and task, every seed that any method finished
    for (const entry of data.entries) {
      const place = placeOf(entry);
      this.seeds.set(place, new Set([...(this.seeds.get(place) ?? []), ...entry.seeds]));
    }
  }

  costName(column) {
    const { name, unit } = this.costs.get(column);
    return unit.length < 4 ? `${name}, ${unit}` : name;
  }

  // A mean over some of the seeds is one over other splits, and is compared with no other.
  isComplete(entry) {
    return new Set(entry.seeds).size === this.seeds.get(placeOf(entry)).size;
  }

  // The definition of a column for a task's kind.
  metric(column, task) {
    const kind = this.tasks.get(task)?.kind;
    return this.data.metrics.find((metric) => metric.column === column && metric.kinds.includes(kind));
  }

  loss(entry, column) {
    const metric = this.metric(column, entry.task);
    return metric && isThere(entry.values[column]) ? lossOf(metric, entry.values[column].mean) : null;
  }

  // Entries of the chosen run, task and methods, whatever they cost.
  chosen(state) {
    return this.data.entries.filter(
      (entry) =>
        (state.run === ALL || entry.run === state.run) &&
        (state.task === ALL || entry.task === state.task) &&
        state.methods.includes(entry.method),
    );
  }

  // What was not measured is no proof of being cheap.
  affordable(entry, state) {
    if (state.max === null) return true;
    return isThere(entry.cost[state.cost]) && entry.cost[state.cost].mean <= state.max;
  }

  // Those that are not told apart from the best of their run and task: among_best.py has found them, seed by seed.
  best(entries, column) {
    return new Set(entries.filter((entry) => entry.among_best.includes(column)));
  }

  // Whether too few seeds of its run and task were finished to tell anything apart from the best.
  hasFewSeeds(entry) {
    return this.seeds.get(placeOf(entry)).size < this.data.fewest_seeds;
  }

  // Entries of each run and task than which none is both better and no dearer.
  front(entries, column, cost) {
    const found = new Set();
    for (const group of byPlace(entries)) {
      const points = group
        .filter((entry) => this.isComplete(entry) && isThere(entry.cost[cost]) && this.loss(entry, column) !== null)
        .map((entry) => ({ entry, cost: entry.cost[cost].mean, loss: this.loss(entry, column) }))
        .sort((a, b) => a.cost - b.cost || a.loss - b.loss);
      let least = Infinity;
      for (const point of points) {
        if (point.loss >= least) continue;
        least = point.loss;
        found.add(point.entry);
      }
    }
    return found;
  }
}

const placeOf = (entry) => JSON.stringify([entry.run, entry.task]);

// Only numbers of one run and task can be compared: elsewhere the splits and seeds are others.
function byPlace(entries) {
  const groups = new Map();
  for (const entry of entries) {
    const place = placeOf(entry);
    if (!groups.has(place)) groups.set(place, []);
    groups.get(place).push(entry);
  }
  return [...groups.values()];
}
