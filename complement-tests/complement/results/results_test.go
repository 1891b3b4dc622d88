package results

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestReasonIsTheComplaintWithoutWhatVaries(t *testing.T) {
	output := []string{
		"    client.go:860: [CSAPI] PUT hs1/_matrix => 404 Not Found (1.2ms)\n",
		"    room_test.go:32: \x1b[31mGET http://127.0.0.1:18001/_matrix/client/v3/x for @user-1-bob:hs1 returned non-2xx code: 404 Not Found - body: {}\x1b[39m\n",
		"    room_test.go:40: closing after 12.5s\n",
	}
	if reason, expected := Reason(output), "GET /v3/x for @user:hs1 answered 404"; reason != expected {
		t.Fatalf("got %q, expected %q", reason, expected)
	}
}

func TestCompareTellsOfFailuresPassesAndAbsence(t *testing.T) {
	before := Results{"A": {Outcome: Pass}, "B": {Outcome: Fail}, "C": {Outcome: Pass}, "D/e": {Outcome: Pass}, "F": {Outcome: Skip}}
	now := Results{"A": {Outcome: Fail, Reason: "why"}, "B": {Outcome: Pass}, "D/e": {Outcome: Fail}, "F": {Outcome: Skip}, "G": {Outcome: Pass}}
	got := Compare(before, now, map[string]string{"D": "says nothing"}, true)
	expected := []string{"new test, pass: G  ", "was fail, now pass: B  ", "was pass, did not run: C", "was pass, now fail: A  why"}
	if !reflect.DeepEqual(got, expected) {
		t.Fatalf("got %q", got)
	}
	if got := Compare(before, Results{"A": {Outcome: Pass}}, nil, false); got != nil {
		t.Fatalf("a part of the package differs: %q", got)
	}
}

func TestWhatFailsByAnUnreliableTestWithinIsNoDifference(t *testing.T) {
	before := Results{"A": {Outcome: Pass}, "A/b": {Outcome: Pass}, "A/b/c": {Outcome: Pass}, "A/d": {Outcome: Pass}}
	flaky := map[string]string{"A/b/c": "says nothing"}
	now := Results{"A": {Outcome: Fail}, "A/b": {Outcome: Fail}, "A/b/c": {Outcome: Fail}, "A/d": {Outcome: Pass}}
	if got := Compare(before, now, flaky, true); got != nil {
		t.Fatalf("got %q", got)
	}
	now["A/d"] = Result{Outcome: Fail}
	if got := Compare(before, now, flaky, true); len(got) != 2 {
		t.Fatalf("got %q", got)
	}
	now = Results{"A": {Outcome: Fail}, "A/b": {Outcome: Fail}, "A/b/c": {Outcome: Pass}, "A/d": {Outcome: Pass}}
	if got := Compare(before, now, flaky, true); len(got) != 2 {
		t.Fatalf("got %q", got)
	}
}

func TestBaselineKeepsAReasonAndForgetsItWithThePass(t *testing.T) {
	baseline := Baseline{Folder: t.TempDir()}
	for _, reason := range []string{"first", "second"} {
		if err := baseline.Write("p", Results{"A": {Outcome: Fail, Reason: reason}, "B": {Outcome: Pass}}); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(baseline.Folder, "p.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != "fail\tA\tfirst\npass\tB\n" {
		t.Fatalf("got %q", text)
	}
}
