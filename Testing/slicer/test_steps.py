"""Work in steps: results and errors arrive once, stopping holds, and a step may run the event loop itself."""

import time
import unittest

import slicer
from MemorizationIndexLib import Steps
from testsupport import SceneTestCase, waitUntil


class StepsTest(SceneTestCase):
    def setUp(self):
        super().setUp()
        self.done, self.ended = [], []

    def start(self, generator):
        self.steps = Steps(generator, lambda result, error: self.ended.append((result, error)))
        self.steps.start()

    def counting(self, during=lambda: None):
        for number in range(3):
            self.done.append(number)
            during()
            yield
        return "all"

    def idle(self):
        for _turn in range(20):
            slicer.app.processEvents()
            time.sleep(0.001)

    def test_the_result_arrives_once(self):
        self.start(self.counting())
        waitUntil(lambda: self.ended)
        self.idle()
        self.assertEqual((self.done, self.ended), ([0, 1, 2], [("all", None)]))

    def test_an_error_ends_it(self):
        def fail():
            raise OSError("disk full")

        self.start(self.counting(fail))
        waitUntil(lambda: self.ended)
        self.idle()
        [(result, error)] = self.ended
        self.assertEqual((self.done, result, str(error)), ([0], None, "disk full"))

    def test_a_step_that_runs_the_event_loop_is_not_entered_again(self):
        self.start(self.counting(self.idle))
        waitUntil(lambda: self.ended)
        self.assertEqual((self.done, self.ended), ([0, 1, 2], [("all", None)]))

    def test_a_step_may_stop_it(self):
        def stop():
            self.steps.stop()

        self.start(self.counting(stop))
        self.idle()
        self.assertEqual((self.done, self.ended), ([0], []))


if __name__ == "__main__":
    unittest.main()
