package results

import (
	_ "embed"
	"fmt"
	"strings"
)

// Tally counts outcomes.
type Tally struct{ Pass, Fail, Skip int }

func (tally *Tally) add(outcome string) {
	switch outcome {
	case Pass:
		tally.Pass++
	case Fail:
		tally.Fail++
	case Skip:
		tally.Skip++
	}
}

func (tally *Tally) addAll(other Tally) {
	tally.Pass += other.Pass
	tally.Fail += other.Fail
	tally.Skip += other.Skip
}

// Count tallies tests and subtests apart.
func Count(results Results) (tests, subtests Tally) {
	for name, result := range results {
		if strings.Contains(name, "/") {
			subtests.add(result.Outcome)
		} else {
			tests.add(result.Outcome)
		}
	}
	return tests, subtests
}

//go:embed page.md
var page string

// Page is the summary of the baseline for readers.
func Page(baseline Baseline, packages []string, version string) (string, error) {
	var rows strings.Builder
	var allTests, allSubtests Tally
	for _, name := range packages {
		results, err := baseline.Read(name)
		if err != nil {
			return "", err
		}
		tests, subtests := Count(results)
		allTests.addAll(tests)
		allSubtests.addAll(subtests)
		rows.WriteString(row(name, tests, subtests))
	}
	rows.WriteString(row("**all**", allTests, allSubtests))
	all := allTests
	all.addAll(allSubtests)
	return strings.NewReplacer(
		"{version}", version, "{packages}", strings.TrimSuffix(rows.String(), "\n"),
		"{tests}", cell(allTests), "{subtests}", cell(allSubtests), "{all}", cell(all),
	).Replace(page), nil
}

func row(name string, tests, subtests Tally) string {
	return fmt.Sprintf("| %s | %s | %s |\n", name, cell(tests), cell(subtests))
}

func cell(tally Tally) string {
	return fmt.Sprintf("%d / %d / %d", tally.Pass, tally.Fail, tally.Skip)
}
