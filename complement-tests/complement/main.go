// Runs Complement without Docker and compares the outcome with the baseline. See docs/complement.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"complement/results"
)

// What the program ends with, beside 0.
const (
	exitDifferent   = 1
	exitBroken      = 2
	exitUnavailable = 3
)

type options struct {
	run      string
	update   bool
	baseline results.Baseline
	page     string
	// Where binaries, logs and results go.
	target string
}

func main() {
	root, target := os.Getenv("COMPLEMENT_ROOT"), os.Getenv("COMPLEMENT_TARGET")
	options := options{
		baseline: results.Baseline{Folder: filepath.Join(root, "complement-tests", "baseline")},
		page:     filepath.Join(root, "docs", "complement.md"),
		target:   target,
	}
	names := options.parse(os.Args[1:])
	different, err := options.runAll(names)
	switch {
	case errors.Is(err, errUnavailable):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitUnavailable)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitBroken)
	case different:
		os.Exit(exitDifferent)
	}
}

// Flags may stand before and behind the names of packages.
func (options *options) parse(arguments []string) (names []string) {
	flags := flag.NewFlagSet("run", flag.ExitOnError)
	flags.StringVar(&options.run, "run", "", "only tests that match, as for `go test`")
	flags.BoolVar(&options.update, "update", false, "make the result the new baseline")
	for {
		_ = flags.Parse(arguments)
		if flags.NArg() == 0 {
			return names
		}
		names = append(names, flags.Arg(0))
		arguments = flags.Args()[1:]
	}
}

func (options *options) runAll(names []string) (different bool, err error) {
	all, version, err := packages()
	if err != nil {
		return false, err
	}
	var allNames []string
	for _, pack := range all {
		allNames = append(allNames, pack.name)
	}
	for _, name := range names {
		if !slices.Contains(allNames, name) {
			return false, fmt.Errorf("no package %s; there are %s", name, strings.Join(allNames, ", "))
		}
	}
	for _, pack := range all {
		if len(names) > 0 && !slices.Contains(names, pack.name) {
			continue
		}
		differs, err := options.runOne(pack)
		if err != nil {
			return false, fmt.Errorf("%s: %w", pack.name, err)
		}
		different = different || differs
	}
	if options.update {
		err = options.writePage(allNames, version)
	}
	return different, err
}

func (options *options) writePage(names []string, version string) error {
	text, err := results.Page(options.baseline, names, version)
	if err != nil {
		return err
	}
	return os.WriteFile(options.page, []byte(text), 0o644)
}

func (options *options) runOne(pack testPackage) (different bool, err error) {
	if err := pack.build(filepath.Join(options.target, "bin")); err != nil {
		return false, err
	}
	started := time.Now()
	run, err := newRun(pack, filepath.Join(options.target, "logs", pack.name))
	if err != nil {
		return false, err
	}
	defer run.close()
	outcome, err := run.all(options.run)
	if err != nil {
		return false, err
	}
	tests, subtests := results.Count(outcome)
	fmt.Printf("%-8s tests %d passed, %d failed, %d skipped; subtests %d, %d, %d; %.0f s\n", pack.name,
		tests.Pass, tests.Fail, tests.Skip, subtests.Pass, subtests.Fail, subtests.Skip, time.Since(started).Seconds())
	return options.judge(pack.name, outcome)
}

func (options *options) judge(name string, outcome results.Results) (different bool, err error) {
	if otherServers() {
		printFailures(outcome)
		return false, nil
	}
	whole := options.run == ""
	if options.update {
		if !whole {
			return false, errors.New("-update wants whole packages")
		}
		return false, options.baseline.Write(name, outcome)
	}
	before, err := options.baseline.Read(name)
	if err != nil {
		return false, err
	}
	flaky, err := options.baseline.Flaky(name)
	if err != nil {
		return false, err
	}
	differences := results.Compare(before, outcome, flaky, whole)
	for _, difference := range differences {
		fmt.Printf("  %s\n", difference)
	}
	if options.run != "" {
		printFailures(outcome)
	}
	return len(differences) > 0, nil
}

func printFailures(outcome results.Results) {
	var names []string
	for name := range outcome {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Printf("  %s %s  %s\n", outcome[name].Outcome, name, outcome[name].Reason)
	}
}

// Whether some server is not ours.
func otherServers() bool {
	return slices.ContainsFunc(os.Environ(), func(pair string) bool {
		return strings.HasPrefix(pair, "COMPLEMENT_BASE_IMAGE_") && !strings.HasSuffix(pair, "=nudge")
	})
}
