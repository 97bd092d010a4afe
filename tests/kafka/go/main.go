// bad-link is one Toxiproxy link to UPSTREAM (its only argument), with orders on standard input, one a line, each answered by one line:
//
//	toxic JSON     from now on this happens to what goes through, in the form of Toxiproxy's API; its name
//	well           nothing bad happens any more
//	connections    how many have been made through it so far
//
// It ends when standard input does.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/rs/zerolog/log"
)

// connections counts what the proxy says in its log: it tells nobody else.
type connections struct{ made atomic.Int64 }

func (c *connections) Run(_ *zerolog.Event, _ zerolog.Level, message string) {
	if message == "Accepted client" {
		c.made.Add(1)
	}
}

func main() {
	counted := &connections{}
	log.Logger = zerolog.Nop() // of the toxics themselves
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.New(io.Discard).Hook(counted))
	link := toxiproxy.NewProxy(server, "link", "127.0.0.1:0", os.Args[1])
	if err := link.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready " + link.Listen)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		order, rest, _ := strings.Cut(lines.Text(), " ")
		switch order {
		case "toxic":
			toxic, err := link.Toxics.AddToxicJson(strings.NewReader(rest))
			if err != nil {
				fmt.Println("error:", err)
				continue
			}
			fmt.Println(toxic.Name)
		case "well":
			link.Toxics.ResetToxics(context.Background())
			fmt.Println("well")
		case "connections":
			fmt.Println(counted.made.Load())
		default:
			fmt.Println("error: no such order:", lines.Text())
		}
	}
}
