package homeserver

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Synapse is the server of Element, from a Python environment that has `matrix-synapse`.
type Synapse struct {
	// Python is the interpreter of that environment.
	Python string
}

//go:embed synapse_on_loopback.py
var synapseOnLoopback []byte

//go:embed synapse.yaml
var synapseSettings string

// Command writes the configuration and says how to start it.
func (synapse Synapse) Command(place Place) (*exec.Cmd, error) {
	if synapse.Python == "" {
		return nil, fmt.Errorf("COMPLEMENT_SYNAPSE_PYTHON must name a python that has matrix-synapse")
	}
	settings, err := synapse.settings(place)
	if err != nil {
		return nil, err
	}
	configuration := filepath.Join(place.Folder, "homeserver.yaml")
	launcher := filepath.Join(place.Folder, "synapse_on_loopback.py")
	peers, err := json.Marshal(place.Peers)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{configuration: []byte(settings), launcher: synapseOnLoopback, filepath.Join(place.Folder, "peers.json"): peers}
	for path, content := range files {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return nil, err
		}
	}
	generate := exec.Command(synapse.Python, "-m", "synapse.app.homeserver", "-c", configuration, "--generate-keys")
	if output, err := generate.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("keys of Synapse: %w: %s", err, output)
	}
	return exec.Command(synapse.Python, launcher, "-c", configuration), nil
}

func (synapse Synapse) settings(place Place) (string, error) {
	_, clientPort, err := net.SplitHostPort(place.ClientAddress)
	if err != nil {
		return "", err
	}
	federationHost, federationPort, err := net.SplitHostPort(place.FederationAddress)
	if err != nil {
		return "", err
	}
	registrations, err := filepath.Glob(place.Copied("complement/appservice/*.yaml"))
	if err != nil {
		return "", err
	}
	quoted, err := json.Marshal(append([]string{}, registrations...))
	if err != nil {
		return "", err
	}
	return strings.NewReplacer(
		"{name}", place.Name, "{data}", place.Data(), "{folder}", place.Folder,
		"{certificate}", place.certificate(), "{key}", place.key(), "{authority}", place.authority(),
		"{client_port}", clientPort, "{federation_host}", federationHost, "{federation_port}", federationPort,
		"{secret}", SharedSecret, "{registrations}", string(quoted),
	).Replace(synapseSettings), nil
}
