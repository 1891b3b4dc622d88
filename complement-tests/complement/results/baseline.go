package results

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Baseline is the folder with one file a package, and the list of tests that are not reliable upstream.
type Baseline struct {
	Folder string
}

func (baseline Baseline) file(packageName string) string {
	return filepath.Join(baseline.Folder, packageName+".tsv")
}

// Read gives the results that were acknowledged for a package; none if there is no file.
func (baseline Baseline) Read(packageName string) (Results, error) {
	results := Results{}
	err := eachRow(baseline.file(packageName), func(fields []string) error {
		if len(fields) < 2 {
			return fmt.Errorf("expected an outcome and a test")
		}
		result := Result{Outcome: fields[0]}
		if len(fields) > 2 {
			result.Reason = fields[2]
		}
		results[fields[1]] = result
		return nil
	})
	return results, err
}

// Write acknowledges results. A test that failed before keeps the reason that stands there already, so that the file
// changes only where an outcome does.
func (baseline Baseline) Write(packageName string, results Results) error {
	before, err := baseline.Read(packageName)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(results))
	for name := range results {
		names = append(names, name)
	}
	sort.Strings(names)
	var text strings.Builder
	for _, name := range names {
		result := results[name]
		fields := []string{result.Outcome, name}
		if result.Outcome == Fail {
			if known := before[name]; known.Outcome == Fail && known.Reason != "" {
				result.Reason = known.Reason
			}
			fields = append(fields, strings.ReplaceAll(result.Reason, "\t", " "))
		}
		text.WriteString(strings.Join(fields, "\t") + "\n")
	}
	if err := os.MkdirAll(baseline.Folder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(baseline.file(packageName), []byte(text.String()), 0o644)
}

// Flaky has the tests of a package whose outcome says nothing, with the reason for each.
func (baseline Baseline) Flaky(packageName string) (map[string]string, error) {
	flaky := map[string]string{}
	err := eachRow(filepath.Join(baseline.Folder, "flaky.tsv"), func(fields []string) error {
		if len(fields) != 3 {
			return fmt.Errorf("expected a package, a test and a reason")
		}
		if fields[0] == packageName {
			flaky[fields[1]] = fields[2]
		}
		return nil
	})
	return flaky, err
}

func eachRow(path string, row func(fields []string) error) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		if lines.Text() == "" || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		if err := row(strings.Split(lines.Text(), "\t")); err != nil {
			return fmt.Errorf("%s:%d: %w", path, number, err)
		}
	}
	return lines.Err()
}

// Compare says what is new against the baseline, a line each: failures, passes that nobody acknowledged, tests that are
// there no longer. `whole` says that every test of the package was wanted.
func Compare(before, now Results, flaky map[string]string, whole bool) []string {
	var differences []string
	for name, result := range now {
		known, isKnown := before[name]
		switch {
		case isFlaky(name, flaky), isKnown && known.Outcome == result.Outcome:
		case known.Outcome == Pass && failsByFlaky(name, now, flaky):
		case !isKnown:
			differences = append(differences, fmt.Sprintf("new test, %s: %s  %s", result.Outcome, name, result.Reason))
		default:
			differences = append(differences, fmt.Sprintf("was %s, now %s: %s  %s", known.Outcome, result.Outcome, name, result.Reason))
		}
	}
	for name, known := range before {
		if _, ran := now[name]; whole && !ran && !isFlaky(name, flaky) {
			differences = append(differences, fmt.Sprintf("was %s, did not run: %s", known.Outcome, name))
		}
	}
	sort.Strings(differences)
	return differences
}

// failsByFlaky says whether a test failed because of tests within it, all of which are unreliable.
func failsByFlaky(name string, now Results, flaky map[string]string) bool {
	byFlaky := false
	for within, result := range now {
		if result.Outcome != Fail || !strings.HasPrefix(within, name+"/") {
			continue
		}
		if !isFlaky(within, flaky) && !failsByFlaky(within, now, flaky) {
			return false
		}
		byFlaky = true
	}
	return byFlaky
}

// A test is as unreliable as the test it is part of.
func isFlaky(name string, flaky map[string]string) bool {
	for {
		if _, named := flaky[name]; named {
			return true
		}
		end := strings.LastIndex(name, "/")
		if end < 0 {
			return false
		}
		name = name[:end]
	}
}
