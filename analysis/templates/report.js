(() => {
  "use strict";

  const plots = [...document.querySelectorAll("[data-plot]")];
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--plot-ink").trim();

  function draw(plot) {
    if (plot.dataset.drawn) return;
    plot.dataset.drawn = "yes";
    const { data, layout } = JSON.parse(document.getElementById(plot.dataset.plot).textContent);
    layout.font = { ...layout.font, color: ink() };
    Plotly.newPlot(plot, data, layout, { displayModeBar: false, responsive: true });
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
  window.addEventListener("beforeprint", () => {
    plots.forEach(draw);
    recolour("#333333");
  });
  window.addEventListener("afterprint", () => recolour(ink()));

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
      button.textContent = head.textContent;
      button.addEventListener("click", () => sort(table, column));
      head.replaceChildren(button);
    });
  }
})();
