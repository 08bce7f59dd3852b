// The calculator of the cheat sheet: prices and the number of images become fields, and the
// bills follow them. Without this script the table shows the bills for the published prices.
(function () {
    "use strict";
    function significant(value) {
        if (!isFinite(value)) { return "?"; }
        if (value >= 100) { return Math.round(value).toLocaleString("en"); }
        return value.toLocaleString("en", { maximumSignificantDigits: 3 });
    }
    function dollars(value) {
        if (!isFinite(value)) { return "?"; }
        if (value >= 0.995) {
            return "$" + value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
        }
        var short = value.toLocaleString("en", { maximumSignificantDigits: 3 });
        var places = (short.split(".")[1] || "").length;
        return "$" + (places < 2 ? value.toFixed(2) : short);
    }
    function field(text, value, step) {
        var input = document.createElement("input");
        input.type = "number";
        input.min = "0";
        input.step = step;
        input.value = String(value);
        input.setAttribute("aria-label", text);
        return input;
    }
    function start(box, number) {
        var holder = box.querySelector(".calculator-data");
        var rows = box.querySelectorAll("tbody tr");
        if (!holder || box.querySelector("input")) { return; }
        var data = JSON.parse(holder.textContent);
        if (rows.length !== data.rows.length) { return; }

        var line = document.createElement("p");
        var label = document.createElement("label");
        var images = field("Images to classify", data.images, "1");
        images.removeAttribute("aria-label");
        images.id = "calculator-images-" + number;
        label.htmlFor = images.id;
        label.textContent = "Images to classify: ";
        var reset = document.createElement("button");
        reset.type = "button";
        reset.textContent = "Published prices";
        line.append(label, images, " ", reset);
        box.insertBefore(line, box.firstChild);
        var news = document.createElement("p");
        news.className = "provenance";
        news.setAttribute("role", "status");
        box.querySelector(".figure-scroll").after(news);

        var prices = data.rows.map(function (row, index) {
            var input = field("Dollars an hour of " + row.name, row.usd_per_hour, "any");
            var cell = rows[index].cells[1];
            cell.textContent = "";
            cell.append(input);
            return input;
        });
        function show() {
            var many = Number(images.value);
            var best = null;
            box.querySelector(".calculator-images").textContent = many.toLocaleString("en");
            data.rows.forEach(function (row, index) {
                var cells = rows[index].cells;
                var price = Number(prices[index].value);
                if (row.images_per_second !== null) {
                    var seconds = many / row.images_per_second;
                    var bill = price / 3600 * seconds;
                    cells[3].textContent = dollars(bill);
                    cells[4].textContent = significant(seconds / 3600);
                    if (isFinite(bill) && (best === null || bill < best.bill)) {
                        best = { bill: bill, name: row.name };
                    }
                }
                if (row.training_seconds !== null) {
                    cells[5].textContent = dollars(price / 3600 * row.training_seconds);
                }
            });
            news.textContent = best ? "Cheapest for these images: " + best.name + ", " + dollars(best.bill) + "." : "";
        }
        box.addEventListener("input", show);
        reset.addEventListener("click", function () {
            data.rows.forEach(function (row, index) { prices[index].value = String(row.usd_per_hour); });
            images.value = String(data.images);
            show();
        });
        show();
    }
    document.querySelectorAll(".calculator").forEach(start);
})();
