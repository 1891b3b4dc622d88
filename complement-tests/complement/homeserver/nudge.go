package homeserver

import (
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

// SharedSecret is what Complement signs registrations of administrators with.
const SharedSecret = "complement"

// Nudge is this project's server, configured by nothing but its ordinary settings.
type Nudge struct {
	// Binary is the path of the program.
	Binary string
	// Settings are environment variables, besides those that all tests need.
	Settings []string
}

// Command says how to start it.
func (nudge Nudge) Command(place Place) (*exec.Cmd, error) {
	// What Complement copies into its containers for the application services of a blueprint.
	registrations, err := filepath.Glob(place.Copied("complement/appservice/*.yaml"))
	if err != nil {
		return nil, err
	}
	command := exec.Command(nudge.Binary, "serve")
	command.Env = append([]string{
		"NUDGE_SERVER_NAME=" + place.Name,
		"NUDGE_DATA_DIR=" + place.Data(),
		"NUDGE_LISTEN=" + place.ClientAddress,
		"NUDGE_DATABASE__DURABILITY=relaxed",
		"NUDGE_REGISTRATION__MODE=open",
		"NUDGE_REGISTRATION__SHARED_SECRET=" + SharedSecret,
		"NUDGE_FEDERATION__LISTEN=" + place.FederationAddress,
		"NUDGE_FEDERATION__CERTIFICATE_FILE=" + place.certificate(),
		"NUDGE_FEDERATION__PRIVATE_KEY_FILE=" + place.key(),
		"NUDGE_FEDERATION__EXTRA_CERTIFICATE_AUTHORITIES=" + place.authority(),
		"NUDGE_FEDERATION__OVERRIDES=" + overrides(place.Peers),
		"NUDGE_FEDERATION__ALLOW_PRIVATE_ADDRESSES=127.0.0.0/8,::1/128",
		"NUDGE_MEDIA__PREVIEW_ALLOW_PRIVATE_ADDRESSES=127.0.0.0/8,::1/128",
		// The tests of rooms before version 12 name the creator in the power levels, which version 12 forbids.
		"NUDGE_ROOMS__DEFAULT_VERSION=11",
		// What servers may learn of each other only where the operator says so.
		"NUDGE_ROOMS__DIRECTORY_FOR_SERVERS=true",
		"NUDGE_FEDERATION__DEVICE_NAMES=true",
		"NUDGE_RATE_LIMITS__ENABLED=false",
		"NUDGE_ACCOUNTS__PASSWORD_HASHING=cheap",
		// Some users of the tests have passwords of seven characters.
		"NUDGE_ACCOUNTS__PASSWORD_CHARACTERS_MIN=1",
		"NUDGE_APPLICATION_SERVICES__REGISTRATIONS=" + strings.Join(registrations, ","),
		// Where the tests look for the server's notices.
		"NUDGE_SERVER_NOTICES__USER=_server",
		// The test of previews serves its page on this machine, at some port.
		"NUDGE_MEDIA__PREVIEW_ALLOW=*:*",
		"NUDGE_LOG__FILTER=info,homeserver_engine=debug,federation_outbound=debug,federation_inbound=debug",
	}, append(nudge.Settings, place.Environment...)...)
	// Where the test wants application services, their registrations were copied to this folder.
	if services := place.Copied("/complement/appservice"); isFolder(services) {
		command.Env = append(command.Env, "NUDGE_APPLICATION_SERVICES__REGISTRATIONS="+services)
	}
	return command, nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func overrides(peers map[string]string) string {
	var pairs []string
	for name, address := range peers {
		pairs = append(pairs, name+"="+address)
	}
	sort.Strings(pairs)
	return strings.Join(pairs, ",")
}
