package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const upstream = "github.com/matrix-org/complement"

// errUnavailable says that Complement itself cannot be had.
var errUnavailable = errors.New("the Go modules of Complement cannot be had on this machine")

// A package of tests.
type testPackage struct {
	// Its short name: tests, csapi, msc3902.
	name string
	// Its import path.
	path string
	// Where its sources are, and so where its tests must run.
	folder string
	// Its test binary.
	binary string
}

// The packages that have tests, and the version they are of.
func packages() (found []testPackage, version string, err error) {
	version, err = goOutput("list", "-m", "-f", "{{.Version}}", upstream)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errUnavailable, err)
	}
	list, err := goOutput("list", "-f", "{{.ImportPath}} {{.Dir}}", upstream+"/tests/...")
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errUnavailable, err)
	}
	for _, line := range strings.Split(list, "\n") {
		path, folder, isPackage := strings.Cut(line, " ")
		if isPackage {
			found = append(found, testPackage{name: filepath.Base(path), path: path, folder: folder})
		}
	}
	if len(found) == 0 {
		return nil, "", errUnavailable
	}
	return found, version, nil
}

// Builds the test binary, unless it was built for the same modules and the same Go before.
func (pack *testPackage) build(folder string) error {
	stamp, err := buildStamp()
	if err != nil {
		return err
	}
	pack.binary = filepath.Join(folder, pack.name+".test")
	stampFile := pack.binary + ".stamp"
	if known, err := os.ReadFile(stampFile); err == nil && string(known) == stamp {
		return nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	// -vet=off, because these are not our sources.
	if _, err := goOutput("test", "-c", "-vet=off", "-p", "1", "-o", pack.binary, pack.path); err != nil {
		return err
	}
	return os.WriteFile(stampFile, []byte(stamp), 0o644)
}

func buildStamp() (string, error) {
	version, err := goOutput("version")
	if err != nil {
		return "", err
	}
	modules, err := os.ReadFile("go.mod")
	return fmt.Sprintf("%x", sha256.Sum256([]byte(version+os.Getenv("GOFLAGS")+string(modules)))), err
}

// go.sum may lack modules of Complement's that are not at hand when go.mod is made; Go adds them, and checks them
// against the checksum database.
func goOutput(arguments ...string) (string, error) {
	if arguments[0] != "version" && !strings.Contains(os.Getenv("GOFLAGS"), "-mod=") {
		arguments = slices.Insert(arguments, 1, "-mod=mod")
	}
	command := exec.Command("go", arguments...)
	var complaints strings.Builder
	command.Stderr = &complaints
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(arguments, " "), err, complaints.String())
	}
	return strings.TrimSpace(string(output)), nil
}
