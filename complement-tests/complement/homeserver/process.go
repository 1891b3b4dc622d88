// Package homeserver starts homeservers as child processes on loopback addresses.
package homeserver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Place is where one homeserver lives: its name, its folder, and its addresses.
type Place struct {
	// Name is the server name, such as hs1.
	Name string
	// Folder holds `data`, what Complement copied in under `files`, and the log.
	Folder string
	// ClientAddress is where clients connect, over plain HTTP.
	ClientAddress string
	// FederationAddress is where other servers connect, by TLS: an address of its own, port 8448.
	FederationAddress string
	// Peers has the federation address of every server name of the same network.
	Peers map[string]string
	// Environment is what Complement asked to pass on.
	Environment []string
}

// Data is the folder that survives a restart, and that a snapshot copies.
func (place Place) Data() string { return filepath.Join(place.Folder, "data") }

// Copied is where a file is that Complement copied into the container.
func (place Place) Copied(path string) string { return filepath.Join(place.Folder, "files", path) }

// Log is the file with everything that the server wrote.
func (place Place) Log() string { return filepath.Join(place.Folder, "server.log") }

// Kind is a program that can be a homeserver.
type Kind interface {
	// Command prepares what the program needs and says how to start it.
	Command(place Place) (*exec.Cmd, error)
}

// Process is a running homeserver.
type Process struct {
	command *exec.Cmd
	ended   chan struct{}
}

// Start starts a homeserver that dies with this program.
func Start(kind Kind, place Place) (*Process, error) {
	if err := os.MkdirAll(place.Data(), 0o755); err != nil {
		return nil, err
	}
	if err := writeCertificate(place); err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", place.Name, err)
	}
	command, err := kind.Command(place)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(place.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command.Dir = place.Folder
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := startOnKeptThread(command); err != nil {
		return nil, err
	}
	process := &Process{command: command, ended: make(chan struct{})}
	go func() {
		_ = command.Wait()
		close(process.ended)
	}()
	return process, nil
}

var (
	starterOnce sync.Once
	starts      = make(chan start)
)

type start struct {
	command *exec.Cmd
	result  chan error
}

// The kernel signals a child when the thread that started it ends, so one thread that never ends starts them all.
func startOnKeptThread(command *exec.Cmd) error {
	starterOnce.Do(func() {
		go func() {
			runtime.LockOSThread()
			for wanted := range starts {
				wanted.result <- wanted.command.Start()
			}
		}()
	})
	wanted := start{command, make(chan error)}
	starts <- wanted
	return <-wanted.result
}

// Running says whether the process has not ended yet.
func (process *Process) Running() bool {
	select {
	case <-process.ended:
		return false
	default:
		return true
	}
}

// Stop asks the process to end, and insists after the patience.
func (process *Process) Stop(patience time.Duration) {
	process.Signal(syscall.SIGCONT)
	process.Signal(syscall.SIGTERM)
	select {
	case <-process.ended:
	case <-time.After(patience):
		process.Kill()
	}
}

// Kill ends the process at once.
func (process *Process) Kill() {
	process.Signal(syscall.SIGKILL)
	<-process.ended
}

// Signal sends a signal to the process if it still runs.
func (process *Process) Signal(signal syscall.Signal) {
	if process.Running() {
		_ = process.command.Process.Signal(signal)
	}
}
