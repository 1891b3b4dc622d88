//go:build pin

package main

// Holds the version of the tests in go.mod; nothing of them is used in this program.
import _ "github.com/matrix-org/complement"
