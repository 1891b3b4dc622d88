// Package results says how tests went, and how that differs from the baseline.
package results

import (
	"regexp"
	"strings"
)

// The outcomes of a test.
const (
	Pass = "pass"
	Fail = "fail"
	Skip = "skip"
)

// Result is the outcome of one test or subtest.
type Result struct {
	Outcome string
	// Why it failed, in a few words; for nothing but failures.
	Reason string
}

// Results has the results of one package by the name of the test.
type Results map[string]Result

const reasonLengthMax = 110

var (
	message = regexp.MustCompile(`^\s*[\w.-]+\.go:\d+: (.*)$`)
	// What Complement writes for whoever reads along, not as a complaint.
	chatter = regexp.MustCompile(`^(\[CSAPI\]|\[SSAPI\]|WARNING|Deploy times|OldDeploy times|StopServer|StartServer|PauseServer|UnpauseServer|SendEventSynced|CSAPI\.Do RetryUntil)`)
	colour  = regexp.MustCompile("\x1b\\[[0-9;]*m")
	// What differs from run to run.
	variable = []struct {
		pattern     *regexp.Regexp
		replacement string
	}{
		{regexp.MustCompile(`https?://127\.0\.0\.1:\d+`), ""},
		{regexp.MustCompile(`(localhost|127\.\d+\.\d+\.\d+):\d+`), "$1"},
		{regexp.MustCompile(`\$[A-Za-z0-9_-]{20,}(:[\w.]+)?`), "$$event"},
		{regexp.MustCompile(`(!|%21|%!\w?(\(MISSING\))?)[A-Za-z0-9_-]{6,}(:[\w.]+)?`), "!room"},
		{regexp.MustCompile(`timed out after .*`), "timed out"},
		{regexp.MustCompile(`%40`), "@"},
		{regexp.MustCompile(`@[a-z0-9._=-]*\d[a-z0-9._=-]*:([\w.]+)`), "@user:$1"},
		{regexp.MustCompile(`\b\d+(\.\d+)?(ms|µs|s)\b`), "some time"},
		{regexp.MustCompile(`0x[0-9a-f]{6,}`), "0x"},
		{regexp.MustCompile(`\b[0-9a-f]{16,}\b`), "(hex)"},
		{regexp.MustCompile(`\b\d{10,}\b`), "(number)"},
		{regexp.MustCompile(`\b[A-Za-z0-9_-]{40,}\b`), "(text)"},
		{regexp.MustCompile(`/_matrix/(client|federation)/`), "/"},
		{regexp.MustCompile(`returned non-2xx code: (\d+) .*`), "answered $1"},
		{regexp.MustCompile(`^(CSAPI\.MustDo:?|CSAPI\.Must:|MatchResponse) `), ""},
		{regexp.MustCompile(`\s+`), " "},
	}
)

// Reason finds the complaint in the output of a failed test, without what differs from run to run.
func Reason(output []string) string {
	last, red := "", ""
	for _, line := range output {
		parts := message.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if parts == nil || chatter.MatchString(colour.ReplaceAllString(parts[1], "")) {
			continue
		}
		last = parts[1]
		if red == "" && strings.Contains(parts[1], "\x1b[31m") {
			red = parts[1]
		}
	}
	if red != "" {
		last = red
	}
	return shorten(colour.ReplaceAllString(last, ""))
}

func shorten(reason string) string {
	for _, part := range variable {
		reason = part.pattern.ReplaceAllString(reason, part.replacement)
	}
	reason = strings.TrimSpace(strings.ToValidUTF8(reason, ""))
	if characters := []rune(reason); len(characters) > reasonLengthMax {
		reason = string(characters[:reasonLengthMax]) + "..."
	}
	return reason
}
