package docker

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
)

// How many servers a network has addresses for; Complement uses three.
const serversPerNetwork = 5

// The port that servers look for when nothing says otherwise.
const federationPort = 8448

type network struct {
	id     string
	name   string
	labels map[string]string
	// The federation address of every name that may appear in the network, by deployment: a test may start servers of
	// the same names again beside those that run. Fixed before the first server starts, because each is told all of them.
	deployments []map[string]string
}

// The addresses of the newest deployment, or, if that has a server of the name already, of one more.
func (network *network) addressesFor(name string, taken func(address string) bool) (map[string]string, error) {
	if count := len(network.deployments); count > 0 && !taken(network.deployments[count-1][name]) {
		return network.deployments[count-1], nil
	}
	addresses, err := newAddresses()
	if err == nil {
		network.deployments = append(network.deployments, addresses)
	}
	return addresses, err
}

// Each deployment gets a block 127.x.y.0/24 of its own, so that all its servers can use the same port.
func newAddresses() (map[string]string, error) {
	const attempts = 100
	for range attempts {
		block := fmt.Sprintf("127.%d.%d", 16+rand.IntN(200), rand.IntN(255))
		if addresses, free := addressesIn(block); free {
			return addresses, nil
		}
	}
	return nil, fmt.Errorf("no free block of loopback addresses after %d attempts", attempts)
}

func addressesIn(block string) (map[string]string, bool) {
	addresses := map[string]string{}
	for number := 1; number <= serversPerNetwork; number++ {
		address := fmt.Sprintf("%s.%d:%d", block, number, federationPort)
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return nil, false
		}
		_ = listener.Close()
		addresses[fmt.Sprintf("hs%d", number)] = address
	}
	return addresses, true
}

func (engine *Engine) createNetwork(writer http.ResponseWriter, request *http.Request) {
	var wanted struct {
		Name   string
		Labels map[string]string
	}
	if err := json.NewDecoder(request.Body).Decode(&wanted); err != nil {
		refuse(writer, http.StatusBadRequest, "network: %s", err)
		return
	}
	engine.lock.Lock()
	defer engine.lock.Unlock()
	created := &network{id: newID(), name: wanted.Name, labels: wanted.Labels}
	engine.networks[created.id] = created
	reply(writer, http.StatusCreated, map[string]string{"Id": created.id, "Warning": ""})
}

func (engine *Engine) listNetworks(writer http.ResponseWriter, request *http.Request) {
	engine.lock.Lock()
	defer engine.lock.Unlock()
	list := []map[string]any{}
	for _, network := range engine.networks {
		match, err := matches(request, network.labels)
		if err != nil {
			refuse(writer, http.StatusBadRequest, "filters: %s", err)
			return
		}
		if match {
			list = append(list, map[string]any{"Id": network.id, "Name": network.name, "Labels": network.labels})
		}
	}
	reply(writer, http.StatusOK, list)
}

func (engine *Engine) removeNetwork(writer http.ResponseWriter, request *http.Request) {
	engine.lock.Lock()
	defer engine.lock.Unlock()
	network := engine.networkNamed(request.PathValue("id"))
	if network == nil {
		refuse(writer, http.StatusNotFound, "no such network")
		return
	}
	for _, container := range engine.containers {
		if container.network == network && container.running() {
			refuse(writer, http.StatusForbidden, "network %s has active endpoints", network.name)
			return
		}
	}
	delete(engine.networks, network.id)
	writer.WriteHeader(http.StatusNoContent)
}

func (engine *Engine) networkNamed(nameOrID string) *network {
	for _, network := range engine.networks {
		if network.id == nameOrID || network.name == nameOrID {
			return network
		}
	}
	return nil
}
