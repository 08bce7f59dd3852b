// What mdBook 0.5.4 leaves to do for keyboards and screen readers.
(function () {
    "use strict";
    // The sidebar's toggle is a label, which takes neither aria-expanded nor aria-controls:
    // as a button it does, and Enter and Space work.
    var toggle = document.getElementById("mdbook-sidebar-toggle");
    if (toggle) {
        toggle.setAttribute("role", "button");
        toggle.setAttribute("tabindex", "0");
        toggle.addEventListener("keydown", function (event) {
            if (event.key === "Enter" || event.key === " ") {
                event.preventDefault();
                toggle.click();
            }
        });
    }
    // What scrolls sideways must be reachable by keyboard. Width changes with the window.
    function focusable() {
        document.querySelectorAll(".table-wrapper, pre > code").forEach(function (box, index) {
            if (box.querySelector(".figure-scroll") || box.closest(".figure-scroll")) {
                return;
            }
            if (box.scrollWidth > box.clientWidth) {
                box.setAttribute("tabindex", "0");
                box.setAttribute("role", "region");
                box.setAttribute("aria-label", (box.matches("code") ? "Code" : "Table") + ", scrolls sideways, box " + (index + 1) + " of this page");
            } else {
                box.removeAttribute("tabindex");
                box.removeAttribute("role");
                box.removeAttribute("aria-label");
            }
        });
    }
    window.addEventListener("load", focusable);
    window.addEventListener("resize", focusable);
})();
