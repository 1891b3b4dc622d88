package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"complement/docker"
	"complement/homeserver"
	"complement/results"
)

// A test that says nothing for so long hangs. The longest silence seen in a test that passes is a minute.
const silenceMax = 4 * time.Minute

// What is switched on for the packages that test it.
var settings = map[string][]string{
	"msc3902": {"NUDGE_FEDERATION__PARTIAL_STATE_JOINS=true"},
}

// One run of the tests of a package: its own Docker engine and its own temporary folder.
type packageRun struct {
	pack      testPackage
	engine    *docker.Engine
	temporary string
	logs      string
	outputs   map[string][]string
	results   results.Results
}

func newRun(pack testPackage, logs string) (*packageRun, error) {
	// Short, because the path of a unix socket is limited to 107 bytes.
	temporary, err := os.MkdirTemp("", "complement-")
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(logs); err != nil {
		return nil, err
	}
	run := &packageRun{pack: pack, temporary: temporary, logs: logs, outputs: map[string][]string{}, results: results.Results{}}
	if err := run.writeKeepScript(); err != nil {
		return nil, err
	}
	run.engine, err = docker.Listen(run.socket(), run.state(), map[string]homeserver.Kind{
		"nudge":   homeserver.Nudge{Binary: os.Getenv("NUDGE_BINARY"), Settings: settings[pack.name]},
		"synapse": homeserver.Synapse{Python: synapsePython()},
	})
	return run, err
}

func (run *packageRun) socket() string     { return filepath.Join(run.temporary, "docker") }
func (run *packageRun) state() string      { return filepath.Join(run.temporary, "state") }
func (run *packageRun) keepScript() string { return filepath.Join(run.temporary, "keep-logs") }

func (run *packageRun) close() {
	run.engine.Close()
	_ = os.RemoveAll(run.temporary)
}

// Complement calls this with the container, the test, and whether it failed, before it removes the container.
func (run *packageRun) writeKeepScript() error {
	if err := os.MkdirAll(run.logs, 0o755); err != nil {
		return err
	}
	script := fmt.Sprintf(`#!/bin/sh
[ "$3" = true ] || [ "$2" = COMPLEMENT_ENABLE_DIRTY_RUNS ] || exit 0
mkdir -p '%[1]s'/"$2"
name=$(openssl x509 -noout -subject -nameopt multiline -in '%[2]s'/containers/"$1"/server.crt 2>/dev/null | sed -n 's/ *commonName *= //p')
cp '%[2]s'/containers/"$1"/server.log '%[1]s'/"$2"/"${name:-$1}".log
`, run.logs, run.state())
	return os.WriteFile(run.keepScript(), []byte(script), 0o755)
}

// Runs all tests that match. A panic ends a test binary, so it is started again for what is left.
func (run *packageRun) all(pattern string) (results.Results, error) {
	if err := run.once(pattern); err != nil {
		return nil, err
	}
	wanted, err := run.list(pattern)
	if err != nil {
		return nil, err
	}
	for {
		left := slices.DeleteFunc(slices.Clone(wanted), func(name string) bool {
			_, done := run.results[name]
			return done
		})
		if len(left) == 0 {
			break
		}
		before := len(run.results)
		if err := run.once("^(" + strings.Join(left, "|") + ")$"); err != nil {
			return nil, err
		}
		if len(run.results) == before {
			return nil, fmt.Errorf("these tests do not run: %s", strings.Join(left, ", "))
		}
	}
	return run.results, run.writeOutputs()
}

func (run *packageRun) list(pattern string) ([]string, error) {
	top, _, _ := strings.Cut(pattern, "/")
	if top == "" {
		top = "."
	}
	list := exec.Command(run.pack.binary, "-test.list", top)
	list.Env, list.Dir = run.environment(), run.pack.folder
	output, err := list.Output()
	var names []string
	for _, line := range strings.Split(string(output), "\n") {
		if strings.HasPrefix(line, "Test") {
			names = append(names, line)
		}
	}
	return names, err
}

func (run *packageRun) environment() []string {
	environment := append(os.Environ(),
		"DOCKER_HOST=unix://"+run.socket(),
		"COMPLEMENT_HOSTNAME_RUNNING_COMPLEMENT=localhost",
		"COMPLEMENT_POST_TEST_SCRIPT="+run.keepScript(),
		"COMPLEMENT_SPAWN_HS_TIMEOUT_SECS=60",
		"TMPDIR="+run.temporary,
	)
	if os.Getenv("COMPLEMENT_BASE_IMAGE") == "" {
		environment = append(environment, "COMPLEMENT_BASE_IMAGE=nudge")
	}
	// Upstream documents capitals, and looks for what a blueprint says.
	for _, name := range []string{"HS1", "HS2", "HS3"} {
		if image := os.Getenv("COMPLEMENT_BASE_IMAGE_" + name); image != "" {
			environment = append(environment, "COMPLEMENT_BASE_IMAGE_"+strings.ToLower(name)+"="+image)
		}
	}
	return environment
}

func (run *packageRun) once(pattern string) error {
	arguments := []string{"tool", "test2json", "-t", "-p", run.pack.path, run.pack.binary,
		"-test.v=test2json", "-test.count=1", "-test.timeout=0"}
	if pattern != "" {
		arguments = append(arguments, "-test.run", pattern)
	}
	tests := exec.Command("go", arguments...)
	tests.Env, tests.Dir = run.environment(), run.pack.folder
	// A group of its own, so that a hanging test binary can be asked where it hangs.
	tests.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	output, err := tests.StdoutPipe()
	if err != nil {
		return err
	}
	tests.Stderr = os.Stderr
	if err := tests.Start(); err != nil {
		return err
	}
	run.read(output, func() { _ = syscall.Kill(-tests.Process.Pid, syscall.SIGQUIT) })
	// Failing tests make a failing binary; what matters was in the output.
	_ = tests.Wait()
	return nil
}

type event struct {
	Action string
	Test   string
	Output string
}

func (run *packageRun) read(output io.Reader, quit func()) {
	var lastEvent atomic.Int64
	lastEvent.Store(time.Now().UnixNano())
	done := make(chan struct{})
	defer close(done)
	go watch(&lastEvent, done, quit)
	reader := bufio.NewReader(output)
	started := map[string]bool{}
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			break
		}
		lastEvent.Store(time.Now().UnixNano())
		var event event
		if json.Unmarshal([]byte(line), &event) == nil {
			run.take(event, started)
		}
	}
	for name := range started {
		run.results[name] = results.Result{Outcome: results.Fail, Reason: "the test program ended"}
	}
}

func watch(lastEvent *atomic.Int64, done chan struct{}, quit func()) {
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Second):
			if time.Since(time.Unix(0, lastEvent.Load())) > silenceMax {
				quit()
				return
			}
		}
	}
}

func (run *packageRun) take(event event, started map[string]bool) {
	if event.Test == "" {
		return
	}
	switch event.Action {
	case "run":
		started[event.Test] = true
	case "output":
		run.outputs[event.Test] = append(run.outputs[event.Test], event.Output)
	case results.Pass, results.Fail, results.Skip:
		delete(started, event.Test)
		result := results.Result{Outcome: event.Action}
		if event.Action == results.Fail {
			result.Reason = run.reason(event.Test)
		}
		run.results[event.Test] = result
		if os.Getenv("COMPLEMENT_VERBOSE") != "" {
			fmt.Fprintf(os.Stderr, "%s %s  %s\n", event.Action, event.Test, result.Reason)
		}
	}
}

var panicLine = regexp.MustCompile(`^panic: (.*)`)

func (run *packageRun) reason(test string) string {
	for name, result := range run.results {
		if strings.HasPrefix(name, test+"/") && result.Outcome == results.Fail {
			return "a subtest failed"
		}
	}
	for _, line := range run.outputs[test] {
		if parts := panicLine.FindStringSubmatch(line); parts != nil {
			return "panic: " + results.Reason([]string{"panic.go:1: " + parts[1]})
		}
	}
	return results.Reason(run.outputs[test])
}

// Keeps the output of every failed test beside the logs of its servers.
func (run *packageRun) writeOutputs() error {
	for name, result := range run.results {
		if result.Outcome != results.Fail {
			continue
		}
		folder := filepath.Join(run.logs, name)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		text := strings.Join(run.outputs[name], "")
		if err := os.WriteFile(filepath.Join(folder, "output.txt"), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// The environment that the interoperability test makes, unless another one is named.
func synapsePython() string {
	if python := os.Getenv("COMPLEMENT_SYNAPSE_PYTHON"); python != "" {
		return python
	}
	python := filepath.Join(os.Getenv("COMPLEMENT_TARGET"), "..", "interop-venv", "bin", "python")
	if _, err := os.Stat(python); err != nil {
		return ""
	}
	return python
}
