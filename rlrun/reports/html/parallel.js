// Parallel coordinates: a line for each run over its settings and its return. Plotly's own compile code, which the page forbids.

const SVG = "http://www.w3.org/2000/svg";
const CIVIDIS = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]];
const HEIGHT = 330, TOP = 46, BOTTOM = 22, LEAST_WIDTH = 105, LEFT = 55, RIGHT = 92; // RIGHT: for the numbers of the last axis

function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A colour between the ends of the scale; of the dark end less in the dark. */
function shade(share) {
  const from = isDark() ? 0.25 : 0, to = isDark() ? 1 : 0.85;
  const at = (from + share * (to - from)) * (CIVIDIS.length - 1);
  const low = Math.min(Math.floor(at), CIVIDIS.length - 2);
  const mixed = CIVIDIS[low].map((part, index) => Math.round(part + (at - low) * (CIVIDIS[low + 1][index] - part)));
  return `rgb(${mixed.join(",")})`;
}

/** `gamma` of `algo.gamma`, `algo` of `algo.name`, and `kwargs.at` of `env.kwargs.at`. */
function shortKey(key) {
  const name = key.endsWith(".name") ? key.slice(0, -5) : key;
  return name.slice(name.indexOf(".") + 1);
}

/** Places of runs of the same value beside each other, in the order of their returns, so that their lines can be told apart. */
function spread(places, levels, final) {
  const room = Math.min(0.1, 0.5 / levels);
  const spots = [...places];
  for (const place of new Set(places)) {
    const same = places.flatMap((at, index) => (at === place ? [index] : []));
    same.sort((a, b) => (final[a] ?? -Infinity) - (final[b] ?? -Infinity));
    same.forEach((index, order) => {
      spots[index] = place + room * ((order + 0.5) / same.length - 0.5);
    });
  }
  return spots;
}

/** An axis as `at`: run -> 0 (bottom) to 1, or null, and `ticks`: [at, text]. */
function axisOf({ key, levels, level, numbers, linear = false }, final) {
  if (!numbers) {
    const place = (index) => (levels.length < 2 ? 0.5 : index / (levels.length - 1));
    return { key, at: spread(level.map(place), levels.length, final), ticks: levels.map((text, index) => [place(index), text]) };
  }
  const known = numbers.filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const logarithmic = !linear && low > 0 && high / low >= 20;
  const scale = logarithmic ? Math.log : (value) => value;
  const width = scale(high) - scale(low) || 1;
  const place = (value) => (value === null ? null : (scale(value) - scale(low)) / width);
  const back = (share) => (logarithmic ? Math.exp(scale(low) + share * width) : low + share * width);
  const shares = high > low ? [0, 0.25, 0.5, 0.75, 1] : [0];
  return { key, at: numbers.map(place), ticks: shares.map((share) => [share, shownNumber(back(share))]) };
}

function parallelCoordinates(place, study) {
  const box = place.querySelector(".parallel"), told = place.querySelector(".told");
  const axes = [...study.axes.map((axis) => axisOf(axis, study.final)), axisOf({ key: "return", numbers: study.final, linear: true })];
  const ranges = axes.map(() => null);
  const lines = [];
  const returns = axes[axes.length - 1];
  const y = (share) => TOP + (1 - share) * (HEIGHT - TOP - BOTTOM);

  function keeps(run) {
    const index = study.runs.indexOf(run);
    return index < 0 || ranges.every((range, axis) => {
      const at = axes[axis].at[index];
      return range === null || (at !== null && range[0] <= at && at <= range[1]);
    });
  }

  function tell(index) {
    const values = study.axes.map(({ key, levels, level, numbers }) => `${key}=${numbers ? shownNumber(numbers[index]) : levels[level[index]]}`);
    told.textContent = `${data.runs[study.runs[index]].name}: ${values.join(", ")}, return ${shownNumber(study.final[index])}`;
  }

  function brushOn(axis, x, svg) {
    const band = drawn("rect", { class: "brush", x: x - 7, width: 14, y: 0, height: 0 });
    const handle = drawn("rect", { class: "handle", x: x - 16, width: 32, y: TOP - 8, height: HEIGHT - TOP - BOTTOM + 16 });
    const share = (event) => 1 - (event.clientY - svg.getBoundingClientRect().top - TOP) / (HEIGHT - TOP - BOTTOM);
    const show = () => {
      const range = ranges[axis] ?? [0, 0];
      band.setAttribute("y", y(range[1]));
      band.setAttribute("height", ranges[axis] ? y(range[0]) - y(range[1]) : 0);
    };
    let start = null;
    handle.addEventListener("pointerdown", (event) => {
      start = share(event);
      handle.setPointerCapture(event.pointerId);
    });
    handle.addEventListener("pointermove", (event) => {
      if (start === null) return;
      const end = share(event);
      ranges[axis] = Math.abs(end - start) < 0.02 ? null : [Math.min(start, end), Math.max(start, end)];
      show();
    });
    handle.addEventListener("pointerup", (event) => {
      if (Math.abs(share(event) - start) < 0.02) ranges[axis] = null;
      start = null;
      show();
      chosen.brushes.set(study, keeps);
      refilter();
    });
    show();
    svg.append(band, handle);
  }

  function draw() {
    if (!chosen.brushes.has(study)) ranges.fill(null);
    const width = Math.max(box.clientWidth, (axes.length - 1) * LEAST_WIDTH + LEFT + RIGHT);
    const gap = (width - LEFT - RIGHT) / (axes.length - 1);
    const x = (axis) => LEFT + axis * gap;
    const svg = drawn("svg", { width, height: HEIGHT, role: "img", "aria-label": "settings and return of each run; the table of runs has the same" });
    lines.length = 0;
    const unknown = ink("note");
    study.runs.forEach((run, index) => {
      const points = axes.flatMap((axis, number) => (axis.at[index] === null ? [] : [`${x(number)},${y(axis.at[index])}`]));
      const line = drawn("polyline", { points: points.join(" "), class: isShown(run) ? "line" : "line out" });
      const at = returns.at[index];
      line.style.stroke = at === null ? unknown : shade(at);
      line.addEventListener("pointerenter", () => tell(index));
      lines.push(line);
    });
    svg.append(...lines.filter((line) => line.classList.contains("out")), ...lines.filter((line) => !line.classList.contains("out")));
    axes.forEach((axis, number) => {
      svg.append(drawn("line", { class: "axis", x1: x(number), x2: x(number), y1: TOP, y2: HEIGHT - BOTTOM }));
      const name = drawn("text", { class: "name", x: x(number), y: 16 }, shortened(shortKey(axis.key), Math.floor(gap / 8)));
      name.append(drawn("title", {}, axis.key));
      svg.append(name);
      const texts = shortenedApart(axis.ticks.map(([, text]) => text), 12);
      axis.ticks.forEach(([share], tick) => svg.append(drawn("text", { class: "tick", x: x(number) + 6, y: y(share) + 4 }, texts[tick])));
      brushOn(number, x(number), svg);
    });
    box.replaceChildren(svg);
  }

  listeners.push(draw);
  new ResizeObserver(draw).observe(box);
}

document.querySelectorAll(".study").forEach((place, index) => {
  const study = data.studies[index];
  parallelCoordinates(place, study);
  if (study.pairs.length) heatMap(place, study);
});
nameTheme();
refilter();
