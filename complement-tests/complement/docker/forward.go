package docker

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"
)

// Complement connects to 127.0.0.1 only, so a port there leads on to the server's own address.
type forwarder struct {
	listener net.Listener
	target   string
}

func forward(target string) (*forwarder, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	forwarder := &forwarder{listener, target}
	go forwarder.accept()
	return forwarder, nil
}

func (forwarder *forwarder) port() string {
	_, port, _ := net.SplitHostPort(forwarder.listener.Addr().String())
	return port
}

func (forwarder *forwarder) accept() {
	for {
		near, err := forwarder.listener.Accept()
		if err != nil {
			return
		}
		go forwarder.connect(near)
	}
}

func (forwarder *forwarder) connect(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", forwarder.target)
	if err != nil {
		return
	}
	defer far.Close()
	done := make(chan struct{}, 2)
	copyAll := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		done <- struct{}{}
	}
	go copyAll(near, far)
	go copyAll(far, near)
	<-done
}

func (forwarder *forwarder) close() { _ = forwarder.listener.Close() }

// Ports below the range that the system hands out for outgoing connections and for `:0`, so that nobody takes one
// between its choice and the start of the server, nor while the server is stopped.
const (
	firstClientPort = 18000
	clientPorts     = 12000
)

var nextClientPort atomic.Int64

func freeClientAddress() (string, error) {
	for range clientPorts {
		port := firstClientPort + nextClientPort.Add(1)%clientPorts
		address := fmt.Sprintf("127.0.0.1:%d", port)
		listener, err := net.Listen("tcp", address)
		if err == nil {
			_ = listener.Close()
			return address, nil
		}
	}
	return "", fmt.Errorf("no free port on 127.0.0.1")
}
