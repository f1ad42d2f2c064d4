"""Tests of report.py, on rows whose figures are known: python3 report_test.py"""

import json
import tempfile
import unittest

import report
from report import ONE_RANK, PYTORCH, RINGATTENTION


def row(gflops, peer_gflops, **more):
    return {"pass": "forward", "peer": PYTORCH, "type": "fp32", "ranks": 1, "threads": 1, "heads": 1, "head_dim": 64,
            "sequence": 1024, "mask": "full", "gflops": gflops, "peak_gflops": 100.0, "peer_gflops": peer_gflops,
            "max_error": 5e-7, "peer_max_error": 2.5e-6, "processes": 3, "version": "512-bit vectors",
            "peer_version": "1.2"} | more


class ReportTest(unittest.TestCase):
    def test_the_geometric_mean_of_2_and_8_is_4(self):
        self.assertAlmostEqual(report.geometric_mean([2, 8]), 4)

    def test_a_geometric_mean_of_nothing_or_of_zero_is_refused_with_the_numbers(self):
        for values in ([], [1, 0]):
            with self.assertRaisesRegex(ValueError, str(values).replace("[", r"\[")):
                report.geometric_mean(values)

    def test_a_row_measured_again_takes_the_place_of_the_old_one_and_of_no_other(self):
        old = [row(50, 50), row(60, 50, mask="causal"), row(70, 50, type="bf16")]
        rows = report.merged(old, [row(80, 50)])
        self.assertEqual(sorted(r["gflops"] for r in rows), [60, 70, 80])

    def test_the_summary_names_the_worst_shape_and_keeps_types_threads_and_passes_apart(self):
        rows = [row(80, 40), row(45, 90, sequence=4096), row(90, 30, type="bf16"), row(99, 33, threads=2)]
        text = report.against_peer(rows)
        self.assertIn("| forward | fp32 | 1 x 1 | 2 | 1.00x | 0.50x | S=4096 H=1 D=64 full | 45 to 80% |", text)
        self.assertIn("| forward | bf16 | 1 x 1 | 1 | 3.00x |", text)
        self.assertIn("| forward | fp32 | 1 x 2 | 1 | 3.00x |", text)

    def test_forward_and_backward_together_are_summed_up_for_ringattention(self):
        rows = [row(80, 40, **{"pass": "backward"}, peer=RINGATTENTION, both_gflops=70.0, peer_both_gflops=20.0)]
        self.assertIn("| both | fp32 | 1 x 1 | 1 | 3.50x | 3.50x |", report.against_peer(rows))

    def test_a_second_thread_and_bf16_are_compared_with_the_same_shape_only(self):
        rows = [row(50, 40), row(95, 60, threads=2), row(80, 40, type="bf16"), row(90, 40, threads=2, mask="causal")]
        lines = [line for line in report.scaling(rows).splitlines() if "S=1024" in line]
        self.assertEqual(lines, ["| 2 threads to 1 | forward | S=1024 H=1 D=64 full | 1.90x | 1.50x |",
                                 "| bf16 to fp32 | forward | S=1024 H=1 D=64 full | 1.60x | 1.00x |"])

    def test_the_report_has_every_row_once_and_says_how_many_processes_there_were(self):
        rows = [row(80, 40), row(77, 79, peer=ONE_RANK, ranks=2), row(60, 30, peer=RINGATTENTION, chunks="256x128")]
        text = report.markdown(rows, "a machine")
        for figures in ("| 80.0 | 80% | 40.0 | 2.00x | 5.0e-07 | 2.5e-06 |", "| 77.0 | 77% | 79.0 | 0.97x |", "| 60.0 |"):
            self.assertEqual(text.count(figures), 1, figures)
        self.assertIn("medians over 3 processes", text)
        self.assertIn("forward 256x128", text)
        self.assertNotIn(f"{ONE_RANK} 1.2", text)

    def test_rows_that_were_written_are_read_back(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(report.read(folder), [])
            report.write_rows(folder, [row(1, 2)])
            self.assertEqual(report.read(folder), [row(1, 2)])
            self.assertEqual(json.loads((report.Path(folder) / "compare.json").read_text()), [row(1, 2)])


if __name__ == "__main__":
    unittest.main()
