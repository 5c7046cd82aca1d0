// What the theme's pages lack for readers who do not see them, and cannot be said in CSS.
const bookScript = document.currentScript.src;
document.addEventListener("DOMContentLoaded", () => {
  // a figure that can be tried brings the script that offers it
  if (document.querySelector(".emlib-lab")) {
    const script = document.createElement("script");
    script.src = new URL("lab/start.js", bookScript).href;
    document.head.append(script);
  }
  // a name that differs from what is written can't be spoken to, nor be found; the writing is the better name
  document.querySelectorAll("summary[aria-label], .search-button-field[aria-label]").forEach((control) => {
    control.removeAttribute("aria-label");
  });
  // Sphinx calls the references a list, but not its entries list items
  document.querySelectorAll(".citation-list").forEach((list) => {
    list.removeAttribute("role");
  });
  // a wide table moves sideways in its own box, by keys too
  document.querySelectorAll(".pst-scrollable-table-container").forEach((box) => {
    box.setAttribute("tabindex", "0");
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", "a wide table");
  });
  // and so does what a cell has printed
  document.querySelectorAll(".cell_output pre").forEach((printed) => {
    if (printed.scrollWidth > printed.clientWidth) printed.tabIndex = 0;
  });
});
