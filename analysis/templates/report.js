(() => {
  "use strict";

  const plots = [...document.querySelectorAll("[data-plot]")];
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--plot-ink").trim();

  function draw(plot) {
    if (plot.dataset.drawn) return;
    plot.dataset.drawn = "yes";
    render(plot, ink());
  }

  function render(plot, colour, size = {}) {
    const { data, layout } = JSON.parse(document.getElementById(plot.dataset.plot).textContent);
    layout.font = { ...layout.font, color: colour };
    Plotly.newPlot(plot, data, { ...layout, ...size }, { displayModeBar: false, responsive: true });
  }

  function recolour(colour) {
    for (const plot of plots) {
      if (plot.dataset.drawn) Plotly.relayout(plot, { "font.color": colour });
    }
  }

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        seen.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "400px" });
  plots.forEach((plot) => seen.observe(plot));

  // Draw one figure per task, so that the page stays responsive.
  const rest = () => {
    const next = plots.find((plot) => !plot.dataset.drawn);
    if (next) {
      draw(next);
      setTimeout(rest);
    }
  };
  setTimeout(rest);

  dark.addEventListener("change", () => recolour(ink()));

  // Paper: a figure is drawn anew for the width that it has there, in CSS pixels, whatever the window's. The view box
  // shrinks it further where the paper is narrower; figures with a minimal width are drawn at that and shrunk.
  const PAPER = { wide: 680, half: 420 };

  function onPaper(plot) {
    plot.dataset.drawn = "yes";
    const wide = plot.closest("figure").classList.contains("wide");
    const width = Math.max(wide ? PAPER.wide : PAPER.half, Number(plot.dataset.least));
    const height = wide ? parseFloat(plot.style.height) : Math.min(parseFloat(plot.style.height), 320);
    render(plot, "#333333", { width, height, autosize: false });
    plot.style.aspectRatio = `${width} / ${height}`;
    for (const svg of plot.querySelectorAll(".main-svg")) svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }

  function onScreen(plot) {
    plot.style.aspectRatio = "";
    render(plot, ink());
  }

  // A button is not repeated with its table's head on the next page, text is.
  function replaceButtons() {
    for (const button of document.querySelectorAll("th button")) {
      const text = document.createElement("span");
      text.className = "printed";
      text.innerHTML = button.innerHTML;
      button.after(text);
    }
  }

  window.addEventListener("beforeprint", () => {
    plots.forEach(onPaper);
    replaceButtons();
  });
  window.addEventListener("afterprint", () => {
    plots.forEach(onScreen);
    document.querySelectorAll("th .printed").forEach((text) => text.remove());
  });

  // Say so where a table or a figure has more to the right than is shown.
  const overflowing = new ResizeObserver((entries) => {
    for (const { target } of entries) target.previousElementSibling.hidden = target.scrollWidth <= target.clientWidth + 1;
  });
  document.querySelectorAll(".hint + .scroll").forEach((region) => overflowing.observe(region));

  function key(row, column) {
    const cell = row.cells[column];
    return cell.dataset.key ?? cell.textContent;
  }

  function sort(table, column) {
    const heads = table.tHead.rows[0].cells;
    const down = heads[column].getAttribute("aria-sort") === "ascending";
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const numeric = rows.some((row) => row.cells[column].classList.contains("number"));
    rows.sort((first, second) => {
      const [a, b] = [key(first, column), key(second, column)];
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = numeric ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true });
      return down ? -order : order;
    });
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  }

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const rows = [...table.tBodies[0].rows];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      head.classList.toggle("number", rows.some((row) => row.cells[column].classList.contains("number")));
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, column));
      head.replaceChildren(button);
    });
  }
})();
