// Package docker answers as much of the Docker API as Complement asks for. A container is a child process on loopback
// addresses, an image is a folder with what the process has stored.
package docker

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"complement/homeserver"
)

// The version of the API that Podman answers with as well; Complement's client adapts to it.
const apiVersion = "1.41"

// Engine holds the networks, images and containers of one package of tests.
type Engine struct {
	folder string
	kinds  map[string]homeserver.Kind

	lock       sync.Mutex
	networks   map[string]*network
	images     map[string]*image
	containers map[string]*container
}

type image struct {
	id     string
	tag    string
	kind   string
	folder string
	labels map[string]string
}

// Listen starts to answer on a unix socket. The base images are the names of the kinds.
func Listen(socket, folder string, kinds map[string]homeserver.Kind) (*Engine, error) {
	engine := &Engine{
		folder:     folder,
		kinds:      kinds,
		networks:   map[string]*network{},
		images:     map[string]*image{},
		containers: map[string]*container{},
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	go func() { _ = http.Serve(listener, engine.routes()) }()
	return engine, nil
}

var versionPrefix = regexp.MustCompile(`^/v1\.\d+/`)

func (engine *Engine) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", engine.ping)
	mux.HandleFunc("GET /containers/json", engine.listContainers)
	mux.HandleFunc("POST /containers/create", engine.createContainer)
	mux.HandleFunc("GET /containers/{id}/json", engine.inspectContainer)
	mux.HandleFunc("GET /containers/{id}/logs", engine.logs)
	mux.HandleFunc("PUT /containers/{id}/archive", engine.copyInto)
	mux.HandleFunc("POST /containers/{id}/{verb}", engine.changeContainer)
	mux.HandleFunc("DELETE /containers/{id}", engine.removeContainer)
	mux.HandleFunc("POST /commit", engine.commit)
	mux.HandleFunc("GET /images/json", engine.listImages)
	mux.HandleFunc("DELETE /images/{id...}", engine.removeImage)
	mux.HandleFunc("GET /networks", engine.listNetworks)
	mux.HandleFunc("POST /networks/create", engine.createNetwork)
	mux.HandleFunc("DELETE /networks/{id}", engine.removeNetwork)
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		request.URL.Path = versionPrefix.ReplaceAllString(request.URL.Path, "/")
		mux.ServeHTTP(writer, request)
	})
}

func (engine *Engine) ping(writer http.ResponseWriter, _ *http.Request) {
	writer.Header().Set("Api-Version", apiVersion)
	writer.Header().Set("OSType", "linux")
	_, _ = writer.Write([]byte("OK"))
}

// Close ends every process.
func (engine *Engine) Close() {
	engine.lock.Lock()
	defer engine.lock.Unlock()
	for _, container := range engine.containers {
		container.kill()
		container.forwarder.close()
	}
}

func newID() string {
	bytes := make([]byte, 32)
	_, _ = rand.Read(bytes)
	return hex.EncodeToString(bytes)
}

// A filter such as {"label":{"a=b":true}} or {"label":["a=b"]}: keys that must be there, or pairs.
func matches(request *http.Request, labels map[string]string) (bool, error) {
	text := request.URL.Query().Get("filters")
	if text == "" {
		return true, nil
	}
	var filters map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &filters); err != nil {
		return false, err
	}
	wanted, err := labelFilters(filters["label"])
	if err != nil {
		return false, err
	}
	for _, filter := range wanted {
		key, value, isPair := strings.Cut(filter, "=")
		actual, present := labels[key]
		if !present || (isPair && actual != value) {
			return false, nil
		}
	}
	return true, nil
}

func labelFilters(text json.RawMessage) ([]string, error) {
	if len(text) == 0 {
		return nil, nil
	}
	var list []string
	if json.Unmarshal(text, &list) == nil {
		return list, nil
	}
	var set map[string]bool
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, err
	}
	for filter := range set {
		list = append(list, filter)
	}
	return list, nil
}

func reply(writer http.ResponseWriter, status int, body any) {
	writer.Header().Set("Content-Type", "application/json")
	writer.WriteHeader(status)
	_ = json.NewEncoder(writer).Encode(body)
}

func refuse(writer http.ResponseWriter, status int, format string, arguments ...any) {
	reply(writer, status, map[string]string{"message": fmt.Sprintf(format, arguments...)})
}

func (engine *Engine) path(parts ...string) string {
	return filepath.Join(append([]string{engine.folder}, parts...)...)
}
