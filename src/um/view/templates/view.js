"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const video = find("video"), lanes = find("lanes"), tip = find("tip"), slider = find("threshold"), every = find("all");
  const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]; // Okabe and Ito's
  const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400]; // seconds
  const ROWS = 40, THIN = 8, THICK = 20, TRUTH = 16; // most rows of a lane; pixels
  const top = Math.max(...data.lanes.flatMap((lane) => lane.found.slice(0, 1).map((segment) => segment[2])), 0);
  let position = 0, broken = false, selected = null, stop = null, order = []; // order: the visible segments by start

  const create = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text; // never HTML: labels are anyone's
    return element;
  };
  const percent = (seconds) => `${100 * Math.min(1, Math.max(0, seconds / data.duration))}%`;
  const scored = (score) => (Math.abs(score) >= 0.1 || !score ? score.toFixed(2) : score.toPrecision(2));
  const clock = (seconds, digits = 1) => {
    if (data.duration < 120) return `${seconds.toFixed(digits)} s`;
    const tenths = Math.round(seconds * 10 ** digits) / 10 ** digits, hours = Math.floor(tenths / 3600);
    const minutes = Math.floor(tenths / 60) % 60, rest = (tenths % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
    return data.duration >= 3600 ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
  };
  const span = (segment) => `${clock(segment.start, 2)} to ${clock(segment.end, 2)}`;
  const told = (segment) =>
    segment.truth ? `annotated\n${span(segment)}` : `predicted, score ${scored(segment.score)}\n${span(segment)}`;

  // Colour of a score: the lane's colour mixed with white, and black or white ink, whichever has more contrast.
  const shade = (colour, score) => {
    const share = top > 0 ? 0.25 + 0.75 * Math.min(1, Math.max(0, score / top)) : 1;
    const mixed = [1, 3, 5].map((at) => Math.round(255 + share * (parseInt(colour.slice(at, at + 2), 16) - 255)));
    const linear = mixed.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    const light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    return [`rgb(${mixed})`, light > 0.179 ? "#000" : "#fff"];
  };

  // Best first, into the first row with room: what a threshold hides never moves what it leaves.
  const pack = (found) => {
    const rows = [];
    for (const segment of found) {
      segment.row = -1;
      for (let row = 0; row < ROWS && segment.row < 0; row++) {
        const taken = (rows[row] ??= []);
        let low = 0, high = taken.length;
        while (low < high) {
          const middle = (low + high) >> 1;
          if (taken[middle].start < segment.start) low = middle + 1;
          else high = middle;
        }
        const fits = (!low || taken[low - 1].end <= segment.start) && (low === taken.length || segment.end <= taken[low].start);
        if (fits) taken.splice(low, 0, segment), (segment.row = row);
      }
    }
  };

  const element = (segment) => {
    const bar = create("div", segment.truth ? "segment truth" : "segment");
    bar.tabIndex = -1;
    bar.setAttribute("role", "link");
    bar.setAttribute("aria-label", `${segment.lane.label}, ${told(segment).replace("\n", ", ")}`);
    bar.style.left = percent(segment.start);
    bar.style.width = `calc(${percent(segment.end)} - ${percent(segment.start)})`;
    bar.segment = segment;
    segment.rows.append(bar);
    if (!segment.truth) {
      const [paper, ink] = shade(segment.lane.colour, segment.score);
      Object.assign(bar.style, { background: paper, color: ink, borderColor: segment.lane.colour });
      bar.append(create("span", "score", scored(segment.score)));
    }
    return bar;
  };

  const curve = (track, values, seconds, colour) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const steps = values.map((value, i) => `V${(1 - value).toFixed(3)}H${i + 1}`).join("");
    path.setAttribute("d", `M0 1${steps}V1Z`);
    path.setAttribute("fill", colour);
    path.setAttribute("stroke", colour);
    const rows = values.length / seconds; // per second
    svg.setAttribute("viewBox", `${-rows * data.curveStart} 0 ${rows * data.duration} 1`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.append(path);
    track.append(svg);
  };

  const build = (lane, number) => {
    const root = create("div", "lane"), name = create("div", "name"), track = create("div", "track");
    lane.colour ??= COLOURS[number % COLOURS.length];
    lane.root = root;
    lane.told = create("small");
    root.setAttribute("role", "group");
    name.append(create("b", "", lane.label), lane.told);
    lane.truthRows = create("div", "rows");
    lane.foundRows = create("div", "rows");
    track.append(lane.truthRows, lane.foundRows);
    track.lane = lane;
    const segment = (at, rows) => ({ start: at[0], end: at[1], score: at[2], distinct: at[3], truth: at.length === 2, lane, rows });
    lane.truth = lane.truth.map((at) => segment(at, lane.truthRows));
    lane.found = lane.found.map((at) => segment(at, lane.foundRows));
    pack(lane.truth);
    pack(lane.found);
    if (lane.curve) curve(track, lane.curve, data.curveSeconds, lane.colour);
    root.append(name, track);
    lanes.append(root);
  };

  const place = (segment, height, row, shown) => {
    const wanted = shown ? height : 0;
    if ((segment.height ?? 0) === wanted) return; // thousands of segments stay fast
    segment.height = wanted;
    if (shown) {
      segment.element ??= element(segment);
      Object.assign(segment.element.style, { top: `${row * height}px`, height: `${height - 2}px` });
    }
    segment.element.hidden = !shown;
  };

  // Show the segments that the controls ask for.
  const show = () => {
    const least = data.low + ((data.high - data.low) * slider.value) / 100, all = every.checked;
    const height = all ? THIN : THICK;
    find("level").textContent = scored(least);
    slider.setAttribute("aria-valuetext", scored(least));
    lanes.classList.toggle("thin", all);
    order = [];
    let shown = 0, total = 0, away = 0;
    for (const lane of data.lanes) {
      let count = 0, rows = 0, truthRows = 0;
      for (const segment of lane.truth) {
        const visible = segment.row >= 0;
        place(segment, TRUTH, segment.row, visible);
        if (visible) truthRows = Math.max(truthRows, segment.row + 1), order.push(segment);
      }
      for (const segment of lane.found) {
        const visible = segment.score >= least - 1e-9 && (all ? segment.row >= 0 : segment.distinct === 1);
        place(segment, height, all ? segment.row : 0, visible);
        if (visible) (rows = Math.max(rows, all ? segment.row + 1 : 1)), count++, order.push(segment);
      }
      lane.truthRows.style.height = `${truthRows * TRUTH}px`;
      lane.foundRows.style.height = `${rows * height}px`;
      const parts = data.annotated ? [`${lane.truth.length} annotated`] : [];
      parts.push(lane.found.length ? `${count} of ${lane.found.length} predicted` : "not predicted");
      lane.told.textContent = parts.join(", ");
      lane.root.setAttribute("aria-label", `${lane.label}: ${parts.join(", ")}`);
      lane.root.hidden = !count && !lane.truth.length;
      (shown += count), (total += lane.found.length), (away += lane.root.hidden);
    }
    order.sort((a, b) => a.start - b.start || a.end - b.end);
    const classes = away ? `; ${away} ${away === 1 ? "class" : "classes"} without one` : "";
    find("count").textContent = `${shown} of ${total} predicted segments shown${classes}`;
    if (!order.includes(selected)) select(null);
    tip.hidden = true;
    tell();
  };

  // One segment can be reached with Tab: the selected one, or else the first.
  const select = (segment) => {
    if (stop) stop.element.tabIndex = -1;
    selected?.element.classList.remove("selected");
    segment?.element.classList.add("selected");
    selected = segment;
    stop = segment ?? order[0];
    if (stop) stop.element.tabIndex = 0;
  };

  const tell = () => {
    lanes.style.setProperty("--now", Math.min(1, position / data.duration));
    find("time").textContent = clock(position);
    const at = order.filter((segment) => segment.start <= position + 1e-6 && position < segment.end);
    const best = new Map();
    for (const segment of at) if (!segment.truth && !(best.get(segment.lane)?.score >= segment.score)) best.set(segment.lane, segment);
    const truth = [...new Set(at.filter((segment) => segment.truth).map((segment) => segment.lane.label))];
    const found = [...best.values()].sort((a, b) => b.score - a.score).slice(0, 3);
    const lines = data.annotated ? [`annotated: ${truth.join(", ") || "–"}`] : [];
    lines.push(`predicted: ${found.map((segment) => `${segment.lane.label} ${scored(segment.score)}`).join(", ") || "–"}`);
    if (find("now").textContent !== lines.join("\n")) find("now").textContent = lines.join("\n");
  };

  const seek = (seconds) => {
    const end = video.duration > 0 && Number.isFinite(video.duration) ? video.duration : data.duration;
    position = Math.min(end, Math.max(0, seconds));
    if (!broken) video.currentTime = position;
    tell();
  };
  const goTo = (segment, focus) => {
    select(segment);
    seek(segment.start);
    if (focus) segment.element.focus({ focusVisible: true });
  };
  const step = (ahead, focus) => {
    const here = selected && Math.abs(position - selected.start) < 0.05 ? order.indexOf(selected) : -1;
    let next = order[here + ahead];
    if (here < 0) next = ahead > 0 ? order.find((s) => s.start > position + 0.01) : order.findLast((s) => s.start < position - 0.01);
    if (next) goTo(next, focus);
  };

  const point = (text, x, y) => {
    tip.textContent = text;
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x - width / 2, document.documentElement.clientWidth - width - 4))}px`;
    tip.style.top = `${y - height - 10 > 0 ? y - height - 10 : y + 22}px`;
  };
  const pointAt = (segment) => {
    const box = segment.element.getBoundingClientRect();
    point(`${segment.lane.label}\n${told(segment)}`, box.left + box.width / 2, box.top);
  };
  const secondsAt = (track, event) => {
    const box = track.getBoundingClientRect();
    return (data.duration * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  };

  lanes.addEventListener("click", (event) => {
    const bar = event.target.closest(".segment"), track = event.target.closest(".track");
    if (bar) goTo(bar.segment, false);
    else if (track) seek(secondsAt(track, event));
  });
  lanes.addEventListener("pointermove", (event) => {
    const bar = event.target.closest(".segment"), track = event.target.closest(".track");
    if (bar) return pointAt(bar.segment);
    if (!track || event.pointerType === "touch") return (tip.hidden = true);
    const seconds = secondsAt(track, event), values = track.lane?.curve;
    const value = values?.[Math.floor(((seconds - data.curveStart) / data.curveSeconds) * values.length)];
    point(clock(seconds) + (value === undefined ? "" : `\ncurve ${value.toFixed(2)}`), event.clientX, event.clientY);
  });
  lanes.addEventListener("pointerleave", () => (tip.hidden = true));
  lanes.addEventListener("focusin", (event) => event.target.segment && pointAt(event.target.segment));
  lanes.addEventListener("focusout", () => (tip.hidden = true));
  addEventListener("scroll", () => {
    const segment = document.activeElement.segment; // may be what was scrolled to
    if (segment && !tip.hidden) pointAt(segment);
    else tip.hidden = true;
  }, { passive: true });

  addEventListener("keydown", (event) => {
    const target = event.target, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const control = target.closest?.("input, button"), jump = event.shiftKey ? 5 : 1;
    const actions = {
      n: () => step(1, true),
      p: () => step(-1, true),
      Escape: () => (tip.hidden = true),
      ...(control ? {} : {
        " ": () => broken || (video.paused ? video.play().catch(() => {}) : video.pause()),
        ArrowLeft: () => seek(position - jump),
        ArrowRight: () => seek(position + jump),
        ...(target.segment ? { Enter: () => goTo(target.segment, true) } : {}),
      }),
    };
    if (!Object.hasOwn(actions, key)) return;
    event.preventDefault();
    event.stopPropagation(); // the player has keys of its own
    actions[key]();
  }, true);

  find("previous").addEventListener("click", () => step(-1, false)); // which keeps the focus
  find("next").addEventListener("click", () => step(1, false));
  slider.addEventListener("input", show);
  every.addEventListener("change", show);

  const follow = () => {
    if (video.currentTime !== position) (position = video.currentTime), tell();
    if (!video.paused && !video.ended) requestAnimationFrame(follow);
  };
  for (const name of ["play", "seeking", "seeked", "timeupdate"]) video.addEventListener(name, () => broken || follow());
  const fail = () => {
    broken = true;
    video.hidden = true;
    find("broken").hidden = false;
  };
  video.addEventListener("error", fail);
  if (video.error) fail(); // before this script ran

  const ruler = create("div", "axis");
  const rule = () => {
    const most = Math.max(2, ruler.clientWidth / 64);
    const step = STEPS.find((seconds) => data.duration / seconds <= most) ?? data.duration / most;
    lanes.style.setProperty("--step", percent(step));
    ruler.replaceChildren();
    for (let i = 0; i * step < data.duration * 0.96; i++) {
      const tick = create("span", "", clock(i * step, step < 1 ? 1 : 0));
      tick.style.left = percent(i * step);
      ruler.append(tick);
    }
  };

  const frame = create("div", "lane"), track = create("div", "track");
  track.append(ruler);
  frame.append(create("div", "name"), track);
  lanes.append(frame);
  data.lanes.forEach(build);
  if (data.magnitude) {
    const lane = { label: "Probability of action", truth: [], found: [], curve: data.magnitude, colour: "#595959" };
    build(lane, 0);
  }
  find("total").textContent = `of ${clock(data.duration)}`;
  addEventListener("resize", rule);
  rule();
  show();
})();
