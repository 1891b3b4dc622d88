package docker

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"complement/homeserver"
)

// How long a server may take to end when nobody says.
const stopPatience = 10 * time.Second

type container struct {
	id        string
	name      string
	kind      string
	labels    map[string]string
	network   *network
	place     homeserver.Place
	process   *homeserver.Process
	paused    bool
	forwarder *forwarder
}

func (container *container) running() bool {
	return container.process != nil && container.process.Running()
}

func (container *container) kill() {
	if container.process != nil {
		container.process.Kill()
	}
}

func (container *container) status() string {
	switch {
	case container.process == nil:
		return "created"
	case !container.process.Running():
		return "exited"
	case container.paused:
		return "paused"
	default:
		return "running"
	}
}

func (engine *Engine) containerNamed(nameOrID string) *container {
	if container := engine.containers[nameOrID]; container != nil {
		return container
	}
	for _, container := range engine.containers {
		if container.name == nameOrID {
			return container
		}
	}
	return nil
}

type wantedContainer struct {
	Image            string
	Env              []string
	Labels           map[string]string
	NetworkingConfig struct {
		EndpointsConfig map[string]struct{ Aliases []string }
	}
}

func (engine *Engine) createContainer(writer http.ResponseWriter, request *http.Request) {
	var wanted wantedContainer
	if err := json.NewDecoder(request.Body).Decode(&wanted); err != nil {
		refuse(writer, http.StatusBadRequest, "container: %s", err)
		return
	}
	engine.lock.Lock()
	defer engine.lock.Unlock()
	name := request.URL.Query().Get("name")
	if engine.containerNamed(name) != nil {
		refuse(writer, http.StatusConflict, "the name %s is in use", name)
		return
	}
	image := engine.imageNamed(wanted.Image)
	if image == nil {
		refuse(writer, http.StatusNotFound, "no such image: %s", wanted.Image)
		return
	}
	created, err := engine.newContainer(name, image, wanted)
	if err != nil {
		refuse(writer, http.StatusBadRequest, "container: %s", err)
		return
	}
	engine.containers[created.id] = created
	reply(writer, http.StatusCreated, map[string]any{"Id": created.id, "Warnings": []string{}})
}

func (engine *Engine) newContainer(name string, image *image, wanted wantedContainer) (*container, error) {
	created := &container{id: newID(), name: name, kind: image.kind, labels: map[string]string{}}
	for _, labels := range []map[string]string{image.labels, wanted.Labels} {
		for key, value := range labels {
			created.labels[key] = value
		}
	}
	for networkName, endpoint := range wanted.NetworkingConfig.EndpointsConfig {
		created.network = engine.networkNamed(networkName)
		if len(endpoint.Aliases) > 0 {
			created.place.Name = endpoint.Aliases[0]
		}
	}
	if created.network == nil {
		return nil, fmt.Errorf("no network for %q", created.place.Name)
	}
	addresses, err := created.network.addressesFor(created.place.Name, engine.isTaken)
	if err != nil {
		return nil, err
	}
	if created.place.FederationAddress = addresses[created.place.Name]; created.place.FederationAddress == "" {
		return nil, fmt.Errorf("no address for %q in its network", created.place.Name)
	}
	created.place.Peers = addresses
	created.place.Folder = engine.path("containers", created.id)
	created.place.Environment = withoutServerName(wanted.Env)
	if err := os.MkdirAll(created.place.Folder, 0o755); err != nil {
		return nil, err
	}
	if image.folder != "" {
		if err := copyFolder(created.place.Data(), image.folder); err != nil {
			return nil, err
		}
	}
	return created, created.takePorts()
}

// Whether a container has a federation address.
func (engine *Engine) isTaken(address string) bool {
	for _, other := range engine.containers {
		if other.place.FederationAddress == address {
			return true
		}
	}
	return false
}

// The client port belongs to the server, so it is given free again; the other stays with the forwarder.
func (container *container) takePorts() error {
	address, err := freeClientAddress()
	if err != nil {
		return err
	}
	container.place.ClientAddress = address
	container.forwarder, err = forward(container.place.FederationAddress)
	return err
}

func withoutServerName(environment []string) []string {
	var rest []string
	for _, pair := range environment {
		if !strings.HasPrefix(pair, "SERVER_NAME=") {
			rest = append(rest, pair)
		}
	}
	return rest
}

func (engine *Engine) listContainers(writer http.ResponseWriter, request *http.Request) {
	engine.lock.Lock()
	defer engine.lock.Unlock()
	list := []map[string]any{}
	for _, container := range engine.containers {
		match, err := matches(request, container.labels)
		if err != nil {
			refuse(writer, http.StatusBadRequest, "filters: %s", err)
			return
		}
		if match {
			list = append(list, map[string]any{
				"Id": container.id, "Names": []string{"/" + container.name},
				"Labels": container.labels, "State": container.status(),
			})
		}
	}
	reply(writer, http.StatusOK, list)
}

// The container that a request names; nil after the refusal was written. The caller must hold the lock.
func (engine *Engine) named(writer http.ResponseWriter, request *http.Request) *container {
	container := engine.containerNamed(request.PathValue("id"))
	if container == nil {
		refuse(writer, http.StatusNotFound, "no such container: %s", request.PathValue("id"))
	}
	return container
}

func (engine *Engine) inspectContainer(writer http.ResponseWriter, request *http.Request) {
	engine.lock.Lock()
	defer engine.lock.Unlock()
	container := engine.named(writer, request)
	if container == nil {
		return
	}
	_, clientPort, _ := net.SplitHostPort(container.place.ClientAddress)
	binding := func(port string) []map[string]string {
		return []map[string]string{{"HostIp": "127.0.0.1", "HostPort": port}}
	}
	reply(writer, http.StatusOK, map[string]any{
		"Id":     container.id,
		"Name":   "/" + container.name,
		"State":  map[string]any{"Running": container.running(), "Paused": container.paused, "Status": container.status()},
		"Config": map[string]any{"Labels": container.labels},
		"NetworkSettings": map[string]any{"Ports": map[string]any{
			"8008/tcp": binding(clientPort), "8448/tcp": binding(container.forwarder.port()),
		}},
	})
}

func (engine *Engine) changeContainer(writer http.ResponseWriter, request *http.Request) {
	engine.lock.Lock()
	container := engine.named(writer, request)
	engine.lock.Unlock()
	if container == nil {
		return
	}
	if err := engine.change(container, request); err != nil {
		refuse(writer, http.StatusInternalServerError, "%s: %s", container.name, err)
		return
	}
	writer.WriteHeader(http.StatusNoContent)
}

func (engine *Engine) change(container *container, request *http.Request) error {
	switch verb := request.PathValue("verb"); verb {
	case "start":
		process, err := homeserver.Start(engine.kinds[container.kind], container.place)
		engine.lock.Lock()
		defer engine.lock.Unlock()
		container.process, container.paused = process, false
		return err
	case "stop":
		container.stop(request.URL.Query().Get("t"))
	case "kill":
		container.kill()
	case "pause", "unpause":
		container.pause(verb == "pause")
	default:
		return fmt.Errorf("unknown verb %s", verb)
	}
	return nil
}

func (container *container) stop(patienceSeconds string) {
	patience := stopPatience
	if seconds, err := strconv.Atoi(patienceSeconds); err == nil {
		patience = time.Duration(seconds) * time.Second
	}
	if container.process != nil {
		container.process.Stop(patience)
	}
}

func (container *container) pause(paused bool) {
	container.paused = paused
	signal := syscall.SIGCONT
	if paused {
		signal = syscall.SIGSTOP
	}
	if container.process != nil {
		container.process.Signal(signal)
	}
}

func (engine *Engine) removeContainer(writer http.ResponseWriter, request *http.Request) {
	engine.lock.Lock()
	container := engine.named(writer, request)
	if container != nil {
		delete(engine.containers, container.id)
	}
	engine.lock.Unlock()
	if container == nil {
		return
	}
	container.kill()
	container.forwarder.close()
	_ = os.RemoveAll(container.place.Folder)
	writer.WriteHeader(http.StatusNoContent)
}

// Unpacks a tar of files, before the container starts.
func (engine *Engine) copyInto(writer http.ResponseWriter, request *http.Request) {
	engine.lock.Lock()
	container := engine.named(writer, request)
	engine.lock.Unlock()
	if container == nil {
		return
	}
	root := container.place.Copied(request.URL.Query().Get("path"))
	if err := unpack(root, tar.NewReader(request.Body)); err != nil {
		refuse(writer, http.StatusBadRequest, "archive: %s", err)
		return
	}
	writer.WriteHeader(http.StatusOK)
}

func unpack(root string, archive *tar.Reader) error {
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			return err
		}
		// Cleaned as an absolute path, so that no name leads out of the root.
		path := filepath.Join(root, filepath.Clean("/"+header.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
}
