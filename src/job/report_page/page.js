"use strict";
// Draws the report of the JSON beside it. Every text goes into the page as text; nothing is fetched.
(() => {
  const report = JSON.parse(document.getElementById("data").textContent);
  const { inventory } = report;

  const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
  const MOST_PACKAGES = 500;

  function bytes(count) {
    const unit = count < 1024 ? 0 : Math.min(Math.floor(Math.log2(count) / 10), UNITS.length - 1);
    return `${unit ? (count / 1024 ** unit).toFixed(2) : count} ${UNITS[unit]}`;
  }
  const counted = (count, thing) => `${count.toLocaleString("en")} ${thing}${count === 1 ? "" : "s"}`;
  const seconds = (count) => `${count.toFixed(1)} s`;
  const share = (part, whole) => `${whole ? (100 * part / whole).toFixed(1) : "0.0"}%`;
  const difference = (count) => `${count < 0 ? "−" : "+"}${bytes(Math.abs(count))}`;

  /** An element: attributes, listeners (`on…`), and children, of which strings become text. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  /** Style attributes would need a permission in the policy; properties do not. */
  function place(element, styles) {
    for (const [name, value] of Object.entries(styles)) element.style.setProperty(name, value);
    return element;
  }

  function section(id, title, ...children) {
    const heading = make("h2", { id: `${id}-title`, tabindex: "-1" }, title);
    const made = make("section", { id, "aria-labelledby": `${id}-title` }, heading, ...children);
    document.getElementById("main").append(made);
    return made;
  }

  /** `columns`: [heading, class]; `rows`: texts or elements. */
  function table(label, columns, rows) {
    const head = make("tr", {}, ...columns.map(([title, style]) => make("th", { scope: "col", class: style }, title)));
    const cells = (row) => row.map((cell, at) => make("td", { class: columns[at][1] }, cell));
    const body = make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row))));
    const made = make("table", { "aria-label": label }, make("thead", {}, head), body);
    return make("div", { class: "scroll" }, made);
  }

  function facts(rows) {
    const pairs = rows.map(({ name, value, link }) => [
      make("dt", {}, name),
      make("dd", {}, link ? make("a", { href: link, rel: "noreferrer noopener" }, value) : value),
    ]);
    return make("dl", {}, ...pairs.flat());
  }

  function bar(from, part, whole) {
    const percent = (value) => `${whole ? Math.min(100, 100 * value / whole) : 0}%`;
    return make("span", { class: "bar", "aria-hidden": "true" }, place(make("i"), { left: percent(from), width: percent(part) }));
  }

  // Sizes: a treemap of one directory at a time.

  /** Rectangles for sizes, the largest first, in a rectangle: each row as square as it can be (Bruls, Huizing, van Wijk). */
  function squarified(sizes, x, y, width, height) {
    const places = [];
    let rest = sizes.reduce((sum, size) => sum + size, 0);
    for (let at = 0; at < sizes.length && rest > 0 && width > 0 && height > 0;) {
      const short = Math.min(width, height);
      const scale = width * height / rest;
      const worst = (sum, largest, smallest) => {
        const side = sum * scale / short;
        return Math.max(largest * scale / side / side, side * side / (smallest * scale));
      };
      let [end, sum] = [at + 1, sizes[at]];
      while (end < sizes.length && sizes[end] > 0
        && worst(sum + sizes[end], sizes[at], sizes[end]) <= worst(sum, sizes[at], sizes[end - 1])) {
        sum += sizes[end];
        end += 1;
      }
      const side = sum * scale / short;
      let along = 0;
      for (; at < end; at += 1) {
        const length = sizes[at] / sum * short;
        places.push(width >= height
          ? { x, y: y + along, width: side, height: length }
          : { x: x + along, y, width: length, height: side });
        along += length;
      }
      if (width >= height) [x, width] = [x + side, width - side];
      else [y, height] = [y + side, height - side];
      rest -= sum;
    }
    return places;
  }

  /** What is in a directory: its nodes, and one for all others. */
  function parts(node) {
    const { others } = node;
    const all = [...(node.children ?? [])];
    if (others) all.push({ name: counted(others.files, "other file"), size: others.size, isOthers: true, files: others.files });
    return all.sort((one, other) => other.size - one.size);
  }
  const isDirectory = (node) => node.files !== undefined && !node.isOthers;
  const isOpen = (node) => isDirectory(node) && (node.children !== undefined || node.others !== undefined);

  /** The nodes from the root to a path, as far as it leads. */
  function follow(names) {
    const nodes = [report.tree];
    for (const name of names) {
      const next = nodes.at(-1).children?.find((child) => child.name === name && isOpen(child));
      if (!next) break;
      nodes.push(next);
    }
    return nodes;
  }

  function typedPath() {
    try {
      return location.hash.replace(/^#\/?/, "").split("/").filter((name) => name !== "").map(decodeURIComponent);
    } catch {
      return [];
    }
  }

  function sizes() {
    const crumbs = make("nav", { "aria-label": "Directory", tabindex: "-1" });
    const map = make("div", { class: "treemap", role: "group" });
    const status = make("p", { class: "quiet", role: "status" });
    const contents = make("div");
    const listed = make("details", {}, make("summary", {}, "As a table"), contents);
    section("sizes", "Sizes", status, crumbs, map, listed);
    let path = [];

    function go(names) {
      const wanted = `#/${names.map(encodeURIComponent).join("/")}`;
      path = names;
      try {
        if (location.hash !== wanted) location.hash = wanted;
      } catch {
        // A frame without an address: what is shown matters.
      }
      draw();
      crumbs.focus();
    }

    function describe(node) {
      const files = isDirectory(node) ? `, ${counted(node.files, "file")}` : "";
      return `${node.name}: ${bytes(node.size)}${files}`;
    }

    function cell(node, at, { x, y, width, height }, names) {
      const opens = isOpen(node);
      const title = describe(node);
      const made = make(opens ? "button" : "div", {
        class: `cell c${node.isOthers ? 7 : at % 7}`,
        title,
        "aria-label": opens ? `${title}; open` : title,
        role: opens ? null : "img",
        type: opens ? "button" : null,
        onclick: opens ? () => go([...names, node.name]) : null,
      });
      place(made, { left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px` });
      if (width > 36 && height > 18) {
        if (opens && width > 60 && height > 60) {
          const inner = parts(node).slice(0, 60).filter((part) => part.size > 0);
          const places = squarified(inner.map((part) => part.size), 3, 40, width - 8, height - 45);
          for (const [number, part] of places.entries()) {
            if (part.width < 3 || part.height < 3) continue;
            const drawn = make("span", { class: "part", "aria-hidden": "true" });
            if (part.width > 40 && part.height > 18) drawn.textContent = inner[number].name;
            made.append(place(drawn, { left: `${part.x}px`, top: `${part.y}px`, width: `${part.width}px`, height: `${part.height}px` }));
          }
        }
        made.append(make("span", { class: "name" }, opens ? `${node.name}/` : node.name));
        if (height > 36) made.append(make("span", { class: "size" }, bytes(node.size)));
      }
      return made;
    }

    function draw() {
      const nodes = follow(path);
      const names = nodes.slice(1).map((node) => node.name);
      const here = nodes.at(-1);
      const shown = parts(here);
      const step = (name, at) => at === names.length
        ? make("li", { "aria-current": "page" }, name)
        : make("li", {}, make("button", { type: "button", class: "link", onclick: () => go(names.slice(0, at)) }, name));
      crumbs.replaceChildren(make("ol", {}, ...["all files", ...names].map(step)));
      const name = `/${names.join("/")}`;
      status.textContent = `${name}: ${bytes(here.size)}, ${share(here.size, report.tree.size)} of all files, ${counted(here.files, "file")}`;
      map.setAttribute("aria-label", `Sizes in ${name}`);
      const drawn = shown.filter((node) => node.size > 0);
      const places = squarified(drawn.map((node) => node.size), 0, 0, map.clientWidth, map.clientHeight);
      map.replaceChildren(...drawn.map((node, at) => cell(node, at, places[at], names)));
      const row = (node) => [
        isOpen(node) ? make("button", { type: "button", class: "link", onclick: () => go([...names, node.name]) }, `${node.name}/`) : node.name,
        bytes(node.size),
        share(node.size, here.size),
        node.files === undefined ? "" : node.files.toLocaleString("en"),
      ];
      const columns = [["Name", ""], ["Size", "number"], ["Share", "number"], ["Files", "number wide"]];
      contents.replaceChildren(table(`Contents of ${name}`, columns, shown.map(row)));
    }

    addEventListener("hashchange", () => {
      path = typedPath();
      draw();
    });
    map.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && path.length > 0) go(follow(path).slice(1, -1).map((node) => node.name));
    });
    path = typedPath();
    draw();
    let width = map.clientWidth;
    new ResizeObserver(() => {
      if (map.clientWidth === width) return;
      width = map.clientWidth;
      draw();
    }).observe(map);
  }

  function layers() {
    const columns = [["#", "number"], ["Step", "step"], ["Size", "number"], ["Share", ""], ["Wasted", "number"], ["Files", "number wide"]];
    const rows = inventory.layers.map((layer, at) => [
      `${at + 1}`,
      layer.step,
      bytes(layer.size),
      make("span", {}, share(layer.size, inventory.size), bar(0, layer.size, inventory.size)),
      layer.wasted ? bytes(layer.wasted) : "–",
      layer.files.toLocaleString("en"),
    ]);
    section("layers", "Layers and the steps that made them", table("Layers", columns, rows));
  }

  function waste() {
    const { bytes: count, efficiency, paths } = inventory.wasted;
    const by = { overwritten: "overwritten", deleted: "deleted" };
    const rows = paths.map((path) => [path.path, bytes(path.bytes), `${by[path.by]} in layer ${path.layer}`]);
    const columns = [["Path", ""], ["Wasted", "number"], ["How", ""]];
    const sentence = `${bytes(count)} are in layers and no container sees them; ${efficiency}% of all bytes in files are visible.`;
    section("waste", "Wasted space", make("p", {}, sentence), rows.length ? table("Wasted space", columns, rows) : null);
  }

  function packages() {
    if (!inventory.packages) {
      section("packages", "Packages", make("p", {}, "No database of a package manager is in the image."));
      return;
    }
    const { count, managers } = inventory.packages;
    const by = Object.entries(managers).map(([name, number]) => `${number.toLocaleString("en")} of ${name}`);
    const listed = make("div");
    const matching = make("p", { class: "quiet", role: "status" });
    function draw(words) {
      const found = report.packages.filter(([name, version]) => `${name} ${version}`.toLowerCase().includes(words.toLowerCase()));
      const shown = found.slice(0, MOST_PACKAGES);
      const more = found.length > shown.length ? `, of which the first ${shown.length} are shown` : "";
      matching.textContent = `${counted(found.length, "package")}${more}`;
      listed.replaceChildren(table("Packages", [["Package", ""], ["Version", ""], ["From", "wide"]], shown));
    }
    const filter = make("input", { id: "filter", type: "search", autocomplete: "off", oninput: (event) => draw(event.target.value.trim()) });
    const label = make("label", { for: "filter" }, "Show packages whose name or version has");
    const sentence = `${counted(count, "package")}${by.length ? `: ${by.join(", ")}` : ""}`;
    const some = make("details", {}, make("summary", {}, "List them"), label, make("br"), filter, matching, listed);
    section("packages", "Packages", make("p", {}, sentence), report.packages.length ? some : null);
    draw("");
  }

  function time() {
    const { stages, took } = report.time;
    const rows = stages.map(({ name, began, took: own }) => [name, bar(began, own, took), seconds(began), seconds(own)]);
    const columns = [["Stage", ""], ["", ""], ["Began", "number wide"], ["Took", "number"]];
    const sentence = `${seconds(took)} until the documents were written; the upload is not among them.`;
    const made = section("time", "Time", make("p", {}, sentence), table("Stages", columns, rows));
    made.classList.add("waterfall");
  }

  /** A sentence, and a list that is open where it is short. */
  function changedPackages(packages) {
    if (!packages) return [];
    const { added, removed, upgraded, listed } = packages;
    const all = added + removed + upgraded;
    if (all === 0) return [make("p", {}, "The packages are the same.")];
    const columns = [["Package", ""], ["Before", ""], ["Now", ""]];
    const rows = listed.map((row) => row.map((text) => text || "–"));
    const shown = rows.length < all ? `, of which ${rows.length.toLocaleString("en")} are listed` : "";
    return [
      make("p", {}, `Packages: ${added} added, ${removed} removed, ${upgraded} upgraded${shown}.`),
      make("details", { open: rows.length <= 20 ? "" : null }, make("summary", {}, "List them"), table("Changed packages", columns, rows)),
    ];
  }

  function change() {
    const { headline, before, now, steps } = report.change;
    const sentence = `${headline}: ${bytes(before)} before, ${bytes(now)} now.`;
    const amount = (size) => (size === null ? "–" : bytes(size));
    const rows = steps.map((step) => [step.step, difference((step.now ?? 0) - (step.before ?? 0)), amount(step.before), amount(step.now)]);
    const columns = [["Step", "step"], ["Difference", "number"], ["Before", "number wide"], ["Now", "number wide"]];
    const changed = rows.length ? table("Changed steps", columns, rows) : null;
    section("change", "Since the previous image", make("p", {}, sentence), changed, ...changedPackages(report.change.packages));
  }

  function configuration() {
    const { configuration: it } = inventory;
    const rows = [
      ["Platform", [it.platform]],
      ["Created", [it.created]],
      ["User", [it.user]],
      ["Working directory", [it.workingDir]],
      ["Entry point", it.entrypoint],
      ["Command", it.command],
      ["Variables", it.variables],
      ["Exposed ports", it.exposedPorts],
      ["Labels", it.labels],
    ];
    const given = rows.map(([name, values]) => ({ name, value: values.filter((value) => value !== null).join(" ") }));
    section("configuration", "Configuration", facts(given.filter((fact) => fact.value !== "")));
  }

  document.title = report.title;
  document.getElementById("title").textContent = report.title;
  const { layers: all, files, size } = inventory;
  document.getElementById("summary").textContent = `${inventory.configuration.platform}, ${bytes(size)} in ${counted(all.length, "layer")}, ${counted(files, "file")}, ${inventory.imageId}`;
  if (report.warnings.length) {
    const list = report.warnings.map((warning) => make("li", {}, warning));
    document.getElementById("main").append(make("ul", { class: "warnings", "aria-label": "Warnings" }, ...list));
  }
  sizes();
  layers();
  waste();
  if (report.change) change();
  packages();
  if (report.time) time();
  if (report.provenance.length) section("provenance", "Provenance", facts(report.provenance));
  configuration();
  document.getElementById("footer").textContent = `Made by image-worker ${report.version}. Sizes are unpacked.`;
})();
